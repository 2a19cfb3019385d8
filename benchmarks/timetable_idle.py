"""A minute in which nothing is due: how often a side wakes up, and what that costs."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from benchmarks.report import Report
from benchmarks.timetable_sides import Running


@dataclasses.dataclass(frozen=True)
class Reading:
    """Of one process, or of the difference between two readings."""

    seconds: float
    wake_ups: float  # of all its threads
    cpu: float  # seconds

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Read what it did so far."""
        times = process.cpu_times()
        return cls(time.monotonic(), _voluntary_switches(process.pid), times.user + times.system)

    def minute(self, before: Self) -> Self:
        """Return what a minute since then had."""
        minutes = (self.seconds - before.seconds) / 60
        return type(self)(60, (self.wake_ups - before.wake_ups) / minutes, (self.cpu - before.cpu) / minutes)


class Watch:
    """Reads all sides when it is made, and at the end."""

    def __init__(self, beats: Mapping[str, Running]) -> None:
        self._beats = beats
        self._before = {name: Reading.of(beat.process) for name, beat in beats.items()}

    def minute(self) -> dict[str, Reading]:
        """Return what a minute had, on average since the beginning."""
        return {
            name: Reading.of(beat.process).minute(self._before[name]) for name, beat in self._beats.items()
        }


def print_idle(report: Report, count: int, found: Mapping[str, Reading]) -> None:
    """Print the minute of so many entries."""
    report.table(
        f"an idle minute of {count:,} entries",
        ["wake-ups", "CPU, ms"],
        [(name, [f"{read.wake_ups:.0f}", f"{read.cpu * 1000:.0f}"]) for name, read in found.items()],
    )


def _voluntary_switches(pid: int) -> int:
    """Return how often the threads of a process went to sleep; each woke up as often."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
