"""A journal of runs: each process of a worker appends to a file of its own, which outlives a kill -9."""

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from benchmarks.marks import DIRECTORY

_ENTRY = struct.Struct("=qq16s?")
_SUFFIX = "journal"


class Entry(NamedTuple):
    """Begin or end of a run."""

    number: int  # of the job, as the task counts
    at: float  # of time.monotonic
    claim: bytes  # the UUID of the attempt; zeros: unknown
    ended: bool


class JournalWriter:
    """The task's side."""

    def __init__(self) -> None:
        self._directory = Path(os.environ[DIRECTORY])
        self._pid = 0
        self._file = -1

    def began(self, number: int, claim: object = None) -> None:
        """Record that the body of a run begins now."""
        self._write(number, claim, ended=False)

    def ended(self, number: int, claim: object = None) -> None:
        """Record that the body of a run is about to end."""
        self._write(number, claim, ended=True)

    def _write(self, number: int, claim: object, *, ended: bool) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            path = self._directory / f"{self._pid}.{_SUFFIX}"
            self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        known = UUID(str(claim)).bytes if claim is not None else bytes(16)
        os.write(self._file, _ENTRY.pack(number, time.monotonic_ns(), known, ended))


def read_journal(directory: Path) -> Iterator[Entry]:
    """Return the entries of all processes, in order of time only within a process."""
    for path in directory.glob(f"*.{_SUFFIX}"):
        data = path.read_bytes()
        whole = len(data) // _ENTRY.size * _ENTRY.size
        for number, at, claim, ended in _ENTRY.iter_unpack(data[:whole]):
            yield Entry(number, at / 1e9, claim, ended)


def forget_journal(directory: Path) -> None:
    """Empty the files of all processes, between runs."""
    for path in directory.glob(f"*.{_SUFFIX}"):
        os.truncate(path, 0)
