"""Clean-up that survives SIGKILL: a helper process ends the children and removes the files of this one."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Self

# The guard reads lines until its standard input ends. Only this process holds the other end of the pipe, so
# the pipe ends on close() and on every death of this process, SIGKILL included.
_SCRIPT = r"""
watched=
while read -r verb pid signal; do
    kept=
    for entry in $watched; do
        [ "${entry#*:}" = "$pid" ] || kept="$kept $entry"
    done
    watched=$kept
    [ "$verb" != watch ] || watched="$watched $signal:$pid"
done
for entry in $watched; do
    kill -s "${entry%%:*}" -- "${entry#*:}" 2>/dev/null
done
for entry in $watched; do
    tries=0
    while kill -s 0 -- "${entry#*:}" 2>/dev/null && [ $((tries += 1)) -le 100 ]; do sleep 0.05; done
    kill -s KILL -- "${entry#*:}" 2>/dev/null
done
for directory; do
    rm -rf -- "$directory" || { sleep 1; rm -rf -- "$directory"; }
done
"""


class Guard:
    """A helper process that ends the watched processes and removes the given directories when this one ends.

    Python's own clean-up covers exceptions and Ctrl-C, but neither SIGKILL nor an unhandled SIGTERM. The
    guard has a session of its own, so the terminal's Ctrl-C does not reach it.
    """

    def __init__(self, *directories: Path) -> None:
        """Start the guard.

        Args:
            directories: Removed with their contents once the watched processes are gone.
        """
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "pgreact-guard", *map(str, directories)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
        """End a process when this one ends.

        Args:
            pid: The process; negative for a process group.
            signum: The first signal; SIGKILL follows after five seconds.
        """
        self._send(f"watch {pid} {signum.name.removeprefix('SIG')}")

    def forget(self, pid: int) -> None:
        """Stop watching a process that has ended: the system may reuse its id.

        Args:
            pid: As given to `watch`.
        """
        self._send(f"forget {pid}")

    def close(self, *children: subprocess.Popen[bytes]) -> None:
        """End the watched processes, remove the directories, and wait for both.

        Args:
            children: Watched processes that this one has started, and so must reap.
        """
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        for child in children:
            child.wait()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        # A killed guard must not break its owner.
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()
