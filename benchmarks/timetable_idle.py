"""An idle minute: how often a side wakes up, and the CPU time it takes."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from benchmarks.report import Report
from benchmarks.timetable_ours import Direct, Queue
from benchmarks.timetable_sides import Running, cpu_seconds

WAKE_UPS = 60
STATEMENTS = 30
FLAT = 1.5

Row = tuple[str, int]  # a side's name and number of entries


@dataclasses.dataclass(frozen=True)
class Reading:
    """The counters of one side, or the difference of two readings."""

    seconds: float
    wake_ups: float  # of all its threads
    statements: float
    cpu: float  # seconds, its server processes included

    @classmethod
    def of(cls, beat: Running) -> Self:
        """Read the counters of a side."""
        cpu = sum(map(cpu_seconds, beat.pids()))
        return cls(time.monotonic(), _voluntary_switches(beat.process.pid), beat.statements(), cpu)

    def minute(self, before: Self) -> Self:
        """Return the average minute since another reading."""
        minutes = (self.seconds - before.seconds) / 60
        return type(self)(
            60,
            (self.wake_ups - before.wake_ups) / minutes,
            (self.statements - before.statements) / minutes,
            (self.cpu - before.cpu) / minutes,
        )


class Watch:
    """Reads all sides when it is made, and at the end."""

    def __init__(self, beats: Mapping[Row, Running]) -> None:
        """Begin.

        Args:
            beats: Each with its name, and how many entries it has.
        """
        self._beats = beats
        self._before = self._read()

    def minute(self) -> dict[Row, Reading]:
        """Return the average minute since the beginning."""
        return {row: reading.minute(self._before[row]) for row, reading in self._read().items()}

    def _read(self) -> dict[Row, Reading]:
        return {row: Reading.of(beat) for row, beat in self._beats.items()}


def print_idle(report: Report, found: Mapping[Row, Reading]) -> None:
    """Print a table, and compare ours with their bars."""
    report.table(
        "an idle minute",
        ["entries", "wake-ups", "statements", "CPU, ms"],
        [
            (
                name,
                [f"{count:,}", f"{read.wake_ups:.0f}", f"{read.statements:.0f}", f"{read.cpu * 1000:.0f}"],
            )
            for (name, count), read in found.items()
        ],
    )
    for name in (Queue.name, Direct.name):
        few, many = (found[row] for row in sorted(row for row in found if row[0] == name))
        report.bar(f"{name}: wake-ups in an idle minute", max(few.wake_ups, many.wake_ups), WAKE_UPS)
        statements = max(few.statements, many.statements)
        report.bar(f"{name}: statements in an idle minute", statements, STATEMENTS)
        report.bar(f"{name}: CPU of an idle minute, most by fewest entries", many.cpu / few.cpu, FLAT)


def _voluntary_switches(pid: int) -> int:
    """Return how often the threads of a process went to sleep; each woke up as often."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
