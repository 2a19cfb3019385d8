"""Commit → task start, one job at a time: plain delay(), pgreact and the peers in random order."""

import dataclasses
import itertools
import random
import statistics
import time
from collections.abc import Mapping, Sequence

from benchmarks.marks import Marks
from benchmarks.queue_sides import POOLS, Side
from benchmarks.report import Report, ms, percentile

NAMES = {
    "delay": "commit, then delay()",
    "pgreact": "pgreact.enqueue",
    **{pool: f"pgreact.enqueue, -P {pool}" for pool in POOLS},
    **{f"delay_{pool}": f"commit, then delay(), -P {pool}" for pool in POOLS},
    "bare": "bare: LISTEN, UPDATE, publish, UPDATE",
    "procrastinate": "Procrastinate",
    "pgqueuer": "PgQueuer",
}
WARM_UP = 8  # jobs
DEADLINE = 30.0
PAUSE = (0.02, 0.1)  # seconds from the start of one job to the commit of the next


@dataclasses.dataclass(frozen=True)
class Latencies:
    """Seconds from commit to start, by side and round."""

    rounds: list[dict[str, list[float]]]

    def all(self, side: str) -> list[float]:
        """Return the seconds of all rounds."""
        return [seconds for found in self.rounds for seconds in found[side]]

    def ratios(self, side: str, other: str) -> list[float]:
        """Return the rounds' ratios of medians: a disturbance hits both sides of a round."""
        return [statistics.median(found[side]) / statistics.median(found[other]) for found in self.rounds]

    def ratio(self, side: str, other: str) -> float:
        """Return the median of the rounds' ratios."""
        return statistics.median(self.ratios(side, other))

    def p99(self, side: str) -> float:
        """Return the 99th percentile of all rounds: one has too few jobs for its own."""
        return percentile(self.all(side), 99)


_numbers = itertools.count(1)


def warm_up(sides: Mapping[str, Side], marks: Marks) -> None:
    """Run jobs until each side's worker answers."""
    for _ in range(WARM_UP):
        for side in sides.values():
            _measure(side, marks)


def measure(sides: Mapping[str, Side], marks: Marks, *, rounds: int, jobs: int) -> Latencies:
    """Measure ``jobs`` jobs of each side in each round."""
    found = []
    for _ in range(rounds):
        this: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(jobs):
            for name in random.sample(list(sides), len(sides)):
                this[name].append(_measure(sides[name], marks))
        found.append(this)
    return Latencies(found)


def print_latencies(report: Report, broker: str, found: Latencies) -> None:
    """Print the latencies, and check their bars."""
    sides = list(found.rounds[0])
    report.table(
        f"commit → task start, {broker}, ms",
        ["p50", "p99", "by delay()", *(["by Procrastinate"] if "procrastinate" in sides else [])],
        [(NAMES[side], _cells(found, side)) for side in sides],
    )
    report.bar_of_rounds(f"{broker}: p50 of pgreact / delay()", found.ratios("pgreact", "delay"), 1.5)
    report.bar(f"{broker}: p99 of pgreact / delay()", found.p99("pgreact") / found.p99("delay"), 2)
    for pool in (side for side in sides if side in POOLS):
        least = found.ratio(f"delay_{pool}", "procrastinate")
        what = f"{broker}: p50 of pgreact with -P {pool} / Procrastinate, where delay() has {least:.2f}"
        report.bar(what, found.ratio(pool, "procrastinate"), 1.5)


def _cells(found: Latencies, side: str) -> Sequence[str]:
    sample = found.all(side)
    others = [other for other in ("delay", "procrastinate") if other in found.rounds[0]]
    ratios = [f"{found.ratio(side, other):.2f}" for other in others]
    return [ms(statistics.median(sample)), ms(found.p99(side)), *ratios]


def _measure(side: Side, marks: Marks) -> float:
    number = next(_numbers)
    committed = side.start(number)
    began = marks.began(number, DEADLINE)
    time.sleep(random.uniform(*PAUSE))
    return began - committed
