"""What a task under measurement tells the bench, so cheaply that it need not be taken into account.

When it began: one datagram. How many ended: a number in memory that each process shares with the bench.
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

DIRECTORY = "BENCH_MARKS"  # the variable that leads the tasks here
_PAIR = struct.Struct("qq")


class Teller:
    """The task's side; each process of a pool has its own."""

    def __init__(self) -> None:
        self._directory = Path(os.environ[DIRECTORY])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(self._directory / "began")
        self._pid = 0
        self._ended = 0

    def began(self, number: int) -> None:
        """Tell that the task of this number begins now."""
        self._socket.sendto(_PAIR.pack(number, time.monotonic_ns()), self._address)

    def ended(self) -> None:
        """Tell that one more task ended now."""
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
        """Make the place where the tasks leave their marks."""
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
            number: What it tells.
            deadline: Seconds.

        Returns:
            When, in seconds as ``time.monotonic`` has them.

        Raises:
            PgreactError: It does not, in time.
        """
        end = time.monotonic() + deadline
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                told, at = _PAIR.unpack(self._socket.recv(_PAIR.size))
            except TimeoutError:
                break
            if told == number:
                return float(at) / 1e9
        raise PgreactError(f"task {number} did not begin in {deadline:g} s")

    def ended(self) -> tuple[int, float]:
        """Return how many tasks ended so far, and when the last of them did."""
        marks = [file.read_bytes() for file in self._directory.glob("*.ended")]
        # a file that was just made is empty
        found = [_PAIR.unpack(mark) for mark in marks if len(mark) == _PAIR.size]
        return sum(count for count, _ in found), max((at for _, at in found), default=0) / 1e9
