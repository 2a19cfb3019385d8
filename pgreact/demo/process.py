"""A child process whose output becomes events of the journal."""

import collections
import contextlib
import datetime
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgreact.demo.guard import Guard
from pgreact.demo.journal import ENDED, Entry, Journal


class Process:
    """A child process in a session of its own, so that the terminal's Ctrl-C reaches only its parent."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        journal: Journal,
        guard: Guard,
    ) -> None:
        self.name = name
        self._expected = False
        self._journal = journal
        self._guard = guard
        self._output: collections.deque[str] = collections.deque(maxlen=15)
        self._process = subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        guard.watch(-self.pid)
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    def kill(self) -> float:
        """Send SIGKILL to the process and its children; return the time in seconds since 1970."""
        self._expected = True
        at = time.time()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return at

    def stop(self, timeout: float) -> None:
        """Send SIGTERM, and SIGKILL if the process does not end.

        Args:
            timeout: Seconds until the SIGKILL; 0: send no SIGTERM.
        """
        self._expected = True
        if timeout:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()
        self._process.wait()
        self._guard.forget(-self.pid)
        self._reader.join(1)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._journal.add(self._entry(line.rstrip()))
        keys = {"output": "\n".join(self._output), "level": "info" if self._expected else "error"}
        self._journal.add(Entry(time.time(), self.name, ENDED, keys))

    def _entry(self, line: str) -> Entry:
        self._output.append(line)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            keys = json.loads(line)
            at = datetime.datetime.fromisoformat(keys["timestamp"]).timestamp()
            return Entry(at, self.name, str(keys["event"]), keys)
        # Celery's worker logs plain text
        ready = line.endswith(" ready.")
        return Entry(time.time(), self.name, "worker.ready" if ready else "(text)", {"text": line})
