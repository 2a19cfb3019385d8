"""Marks: how tasks under measurement report start and end, at negligible cost.

A start is one datagram. The number of ends is a counter in memory that each process shares with the bench.
Both sides read CLOCK_MONOTONIC, which is one clock on one machine.
"""

import mmap
import os
import socket
import struct
import time
from pathlib import Path
from typing import Self

from pgreact.errors import PgreactError

DIRECTORY = "BENCH_MARKS"  # the environment variable with the marks' directory
_PAIR = struct.Struct("qq")


class MarkWriter:
    """The task's side; each process of a pool has its own."""

    def __init__(self) -> None:
        self._directory = Path(os.environ[DIRECTORY])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(self._directory / "began")
        self._pid = 0
        self._ended = 0

    def began(self, number: int) -> None:
        """Report that the task of this number begins now."""
        self._socket.sendto(_PAIR.pack(number, time.monotonic_ns()), self._address)

    def ended(self) -> None:
        """Report that one more task has ended."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._ended = 0
            with (self._directory / f"{self._pid}.ended").open("w+b") as file:
                file.truncate(_PAIR.size)
                self._memory = mmap.mmap(file.fileno(), _PAIR.size)
        self._ended += 1
        _PAIR.pack_into(self._memory, 0, self._ended, time.monotonic_ns())


class Marks:
    """The bench's side."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, which is created by `with`."""
        self._directory = directory

    def __enter__(self) -> Self:
        self._directory.mkdir()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._directory / "began"))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def began(self, number: int, deadline: float) -> float:
        """Wait until the task of this number begins.

        Args:
            number: The task's number.
            deadline: Seconds.

        Returns:
            The time of ``time.monotonic``, in seconds.

        Raises:
            PgreactError: The task does not begin in time.
        """
        end = time.monotonic() + deadline
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                found, at = _PAIR.unpack(self._socket.recv(_PAIR.size))
            except TimeoutError:
                break
            if found == number:
                return float(at) / 1e9
        raise PgreactError(f"task {number} did not begin in {deadline:g} s")

    def ended(self) -> tuple[int, float]:
        """Return the number of tasks that have ended, and the time of the last end."""
        marks = [file.read_bytes() for file in self._directory.glob("*.ended")]
        # a new file is empty
        found = [_PAIR.unpack(mark) for mark in marks if len(mark) == _PAIR.size]
        return sum(count for count, _ in found), max((at for _, at in found), default=0) / 1e9
