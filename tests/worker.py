"""Worker processes, and the notifications of their flights."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.harness import DEADLINE, Database, Late

ROOT = Path(__file__).parents[1]


class Worker:
    """A ``celery worker`` process, by default of ``tests.worker_app``."""

    def __init__(
        self,
        broker: str,
        queue: str,
        pool: str,
        concurrency: int,
        environ: Mapping[str, str],
        app: str = "tests.worker_app",
    ) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", app, "worker"),
                *("-P", pool, "-c", str(concurrency), "-Q", queue, "-l", "info"),
                *(
                    "--without-gossip",
                    "--without-mingle",
                    "--without-heartbeat",
                    "-n",
                    f"{queue}-{id(self)}@t",
                ),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TASK_BROKER": broker,
                "C_FORCE_ROOT": "1",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()

    def wait_for_log(self, text: str, deadline: float = DEADLINE) -> str:
        """Wait until its log contains a text; return the line."""
        end = time.monotonic() + deadline
        with self._changed:
            while not (found := [line for line in self.lines if text in line]):
                if time.monotonic() > end:
                    raise Late(
                        f'no "{text}" in {deadline:g} s; the log so far:\n' + "\n".join(self.lines[-60:])
                    )
                self._changed.wait(0.2)
        return found[0]

    def stop(self) -> None:
        """Kill it and its children."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        for process in (*family, self.process):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(family, timeout=5)
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


class FlightEvents:
    """A LISTENing session that collects the notifications of flights: (route, task id, status), in order."""

    def __init__(self, database: Database) -> None:
        self.received: list[tuple[str, str, str]] = []
        self._connection = database.connect()
        self._connection.execute("listen pgreact")

    def until(
        self, condition: Callable[[list[tuple[str, str, str]]], object], deadline: float = DEADLINE
    ) -> list[tuple[str, str, str]]:
        """Wait until the received notifications fulfil a condition; return them."""
        end = time.monotonic() + deadline
        while not condition(self.received):
            if time.monotonic() > end:
                raise Late(f"not in {deadline:g} s; received: {self.received}")
            for notification in self._connection.notifies(timeout=0.2, stop_after=1):
                if notification.payload.startswith("flight "):
                    _, route, task_id, status = notification.payload.split(" ")
                    self.received.append((route, task_id, status))
        return self.received

    def of(self, *statuses: str) -> list[str]:
        """Return the task ids of these statuses so far."""
        return [task_id for _, task_id, status in self.received if status in statuses]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._connection.close()
