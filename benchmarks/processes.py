"""The processes under measurement: start, wait for readiness, clean-up."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil

from pgreact.demo.guard import Guard
from pgreact.errors import PgreactError

DEADLINE = 30.0
ROOT = Path(__file__).parents[1]


class Workshop:
    """A temporary directory for files and logs, and its processes; the end of the block removes all."""

    def __enter__(self) -> Self:
        """Create the directory."""
        self.directory = Path(tempfile.mkdtemp(prefix="pgreact-bench-", dir="/tmp"))
        self._guard = Guard(self.directory)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the directory."""
        self._guard.close()

    def python(self, *arguments: str, **environment: str) -> None:
        """Run a Python command to its end.

        Raises:
            PgreactError: It failed.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(environment),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PgreactError(f"{' '.join(arguments)} failed:\n{done.stderr}")

    @contextlib.contextmanager
    def running(
        self, *arguments: str, says_ready: bool = True, may_end: bool = False, **environment: str
    ) -> Iterator[psutil.Process]:
        """Run a Python command during the block.

        Args:
            *arguments: Its arguments.
            says_ready: Wait for its READY=1, as systemd does, before the block begins.
            may_end: Accept that the process has ended by the end of the block.
            **environment: On top of ours.

        Raises:
            PgreactError: The process is not ready in time.
        """
        address = str(self.directory / f"notify-{time.monotonic_ns()}")
        log = self.directory / f"{Path(address).name}.log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as output:
            notify.bind(address)
            notify.settimeout(0.5)
            process = psutil.Popen(
                [sys.executable, *arguments],
                env={**self.environment(environment), "NOTIFY_SOCKET": address},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            self._guard.watch(process.pid)
            ready = not says_ready
            end = time.monotonic() + DEADLINE
            while not ready and process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    ready = b"READY=1" in notify.recv(4096)
        try:
            if not ready:
                raise PgreactError(f"{' '.join(arguments)} is not ready:\n{log.read_text()[-2000:]}")
            yield process
            if process.poll() is not None and not may_end:
                raise PgreactError(f"{' '.join(arguments)} ended:\n{log.read_text()[-2000:]}")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
            try:
                process.wait(DEADLINE)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
            self._guard.forget(process.pid)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process, without this machine's settings of PostgreSQL and Celery.

        Args:
            more: Variables to add.
        """
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "CELERY"))
        }
        return {**inherited, "PYTHONPATH": str(ROOT), **more}
