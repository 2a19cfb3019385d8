"""One child of the demo, whose output becomes events."""

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
    """A program in a session of its own: Ctrl-C at the terminal reaches only the demo, which ends it."""

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
        self._last_words: collections.deque[str] = collections.deque(maxlen=15)
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
        """Its process id, and its group's."""
        return self._process.pid

    def kill(self) -> float:
        """End it and all its children with SIGKILL; return when."""
        self._expected = True
        at = time.time()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return at

    def stop(self, patience: float) -> None:
        """Ask it to end, and make sure that it does."""
        self._expected = True
        if patience:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self.kill()
        self._process.wait()
        self._guard.forget(-self.pid)
        self._reader.join(1)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._journal.add(self._entry(line.rstrip()))
        keys = {"last_words": "\n".join(self._last_words), "level": "info" if self._expected else "error"}
        self._journal.add(Entry(time.time(), self.name, ENDED, keys))

    def _entry(self, line: str) -> Entry:
        self._last_words.append(line)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            keys = json.loads(line)
            at = datetime.datetime.fromisoformat(keys["timestamp"]).timestamp()
            return Entry(at, self.name, str(keys["event"]), keys)
        # Celery's worker says so in plain text
        ready = line.endswith(" ready.")
        return Entry(time.time(), self.name, "worker.ready" if ready else "(text)", {"text": line})
