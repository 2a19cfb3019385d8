"""A helper process that ends this process's children and removes its files after this process has died."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Self

# The guard reads lines until its standard input ends. Only this process holds the other end of that pipe:
# it ends by close(), and when this process dies, by SIGKILL too.
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
    """End the watched processes and remove the given directories, however this process ends.

    Python cleans up after exceptions and Ctrl-C, but not after SIGKILL or an unhandled SIGTERM. The guard has
    a session of its own, so the terminal's Ctrl-C does not reach it.
    """

    def __init__(self, *directories: Path) -> None:
        """Start the guard.

        Args:
            directories: To remove with their content once the watched processes have ended.
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
        """End a process when this one has ended.

        Args:
            pid: The process, or minus the id of a process group.
            signum: The first signal. SIGKILL follows after five seconds.
        """
        self._send(f"watch {pid} {signum.name.removeprefix('SIG')}")

    def forget(self, pid: int) -> None:
        """Stop watching a process that has ended, whose id another process may get.

        Args:
            pid: As given to :meth:`watch`.
        """
        self._send(f"forget {pid}")

    def close(self, *children: subprocess.Popen[bytes]) -> None:
        """End the watched processes, remove the directories, and wait for both.

        Args:
            children: The watched processes that are children of this one, to be reaped.
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
        # if the guard was killed, this process goes on without it
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()
