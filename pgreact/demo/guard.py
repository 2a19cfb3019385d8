"""A helper process that outlives this one just long enough to end what it started."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Self

# The guard reads lines until its standard input ends. Nobody but this process holds the other end of that
# pipe, so it ends on close() and on every way a process can die, SIGKILL included.
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
    """Ends the watched processes and removes the given directories, however this process ends.

    Python's own clean-up covers exceptions and Ctrl-C; nothing in a process covers its own SIGKILL, nor a
    SIGTERM that nobody handles. The guard has a session of its own, out of reach of the terminal's Ctrl-C.
    """

    def __init__(self, *directories: Path) -> None:
        """Start the guard.

        Args:
            directories: removed, with all they hold, once the watched processes are gone.
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
        """End a process if this one is gone.

        Args:
            pid: the process; negative for a whole process group.
            signum: what to send it first. SIGKILL follows after five seconds.
        """
        self._tell(f"watch {pid} {signum.name.removeprefix('SIG')}")

    def forget(self, pid: int) -> None:
        """Stop watching a process that has ended, so that its number may go to another.

        Args:
            pid: as given to `watch`.
        """
        self._tell(f"forget {pid}")

    def close(self, *children: subprocess.Popen[bytes]) -> None:
        """End what is still watched, remove the directories, and wait for both.

        Args:
            children: those of the watched that are this process's own, to be reaped on the way.
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

    def _tell(self, line: str) -> None:
        # A guard that somebody killed must not take its ward along.
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()
