"""The cost of entries by their number: start, idle tick, memory, and all due at once."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from benchmarks.report import Report, ms
from benchmarks.timetable_entries import due, idle, overdue
from benchmarks.timetable_ours import Direct, Queue
from benchmarks.timetable_sides import DjangoCeleryBeat, RedBeat, Running, Side
from pgreact.errors import PgreactError

FIRST = 1  # the number of the one entry that is due at the start
ROUNDS = 3  # of ticks
POLL = 0.01
FLAT = 1.5
RUSHED = 10_000  # entries, all due
REDBEAT_BAR = 10
DJANGO_BAR = 500
DEADLINE = 60.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a number of entries on one side."""

    start: float  # seconds until the due entry was sent
    tick: float  # seconds of a tick that finds none due
    memory: int  # bytes


@dataclasses.dataclass(frozen=True)
class Rush:
    """All due at once.

    Attributes:
        count: How many entries.
        sent: How many of them were sent in the time given.
        seconds: Until the last; an estimate if not all were sent.
    """

    count: int
    sent: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f}" if self.sent >= self.count else f"≈ {self.seconds:,.0f}"


@contextlib.contextmanager
def at_rest(sides: Sequence[Side], count: int) -> Iterator[tuple[dict[str, Cost], dict[str, Running]]]:
    """Start each side with ``count`` entries, one of them due; during the block none is due."""
    costs: dict[str, Cost] = {}
    beats: dict[str, Running] = {}
    with ExitStack() as stack:
        for side in sides:
            side.store([*idle(count - 1), overdue(FIRST)])
            beat = beats[side.name] = stack.enter_context(side.running())
            start = beat.sent(FIRST) - beat.started
            tick = statistics.median(beat.tick() for _ in range(ROUNDS))
            costs[side.name] = Cost(start, tick, beat.process.memory_info().rss)
        yield costs, beats


def rush(side: Side, count: int, limit: float) -> Rush:
    """Start a side with ``count`` due entries.

    Each costs as much as the one before, so that a part of them tells how long all would take.

    Args:
        side: It is not running.
        count: How many.
        limit: Seconds after which it is stopped.
    """
    side.store(due(count))
    with side.running() as beat:
        begin = _wait(beat, 1, DEADLINE)
        sent, at = end = _wait(beat, count, limit)
        if sent < count:
            seconds = begin[1] - beat.started + (at - begin[1]) * (count - begin[0]) / (sent - begin[0])
            return Rush(count, sent, seconds)
    return Rush(count, sent, end[1] - beat.started)


def print_costs(
    report: Report, costs: Mapping[int, Mapping[str, Cost]], rushes: Mapping[int, Mapping[str, Rush]]
) -> None:
    """Print a table for each kind of cost, a column for each number of entries; then the bars."""
    for title, cell in (
        ("start → first message, ms", lambda cost: ms(cost.start)),
        ("idle tick, ms", lambda cost: ms(cost.tick)),
        ("memory, MB", lambda cost: f"{cost.memory / 1e6:.0f}"),
    ):
        _print(report, title, {n: {s: cell(cost) for s, cost in found.items()} for n, found in costs.items()})
    _print(
        report,
        "all due → last sent, s",
        {n: {s: str(found) for s, found in by_side.items()} for n, by_side in rushes.items()},
    )
    for count, by_side in rushes.items():
        for side, found in by_side.items():
            if found.sent < count:
                report.note(f"≈: {side} was stopped when it had sent {found.sent} of {count:,}")
    few, most = min(costs), max(costs)
    for name in (Queue.name, Direct.name):
        start, tick = (
            [getattr(costs[count][name], what) for count in (few, most)] for what in ("start", "tick")
        )
        report.bar(f"{name}: start, {most:,} by {few:,} entries", start[1] / start[0], FLAT)
        report.bar(f"{name}: idle tick, {most:,} by {few:,} entries", tick[1] / tick[0], FLAT)
        found = rushes[RUSHED]
        for peer, bar in ((RedBeat.name, REDBEAT_BAR), (DjangoCeleryBeat.name, DJANGO_BAR)):
            reckoned = " (≈)" if found[peer].sent < RUSHED else ""
            ratio = found[peer].seconds / found[name].seconds
            report.bar(f"{RUSHED:,} due: {peer}{reckoned} by {name}", ratio, bar, least=True)


def _wait(beat: Running, count: int, limit: float) -> tuple[int, float]:
    """Wait for ``count`` messages, up to ``limit`` seconds; return how many were sent, and when the last was.

    Raises:
        PgreactError: None was.
    """
    end = time.monotonic() + limit
    while (found := beat.count())[0] < count and time.monotonic() < end:
        time.sleep(POLL)
    if not found[0]:
        raise PgreactError(f"nothing was sent in {limit:g} s")
    return found


def _print(report: Report, title: str, cells: Mapping[int, Mapping[str, str]]) -> None:
    names = {side: None for by_side in cells.values() for side in by_side}
    report.table(
        title,
        [f"{count:,}" for count in cells],
        [(side, [by_side.get(side, "") for by_side in cells.values()]) for side in names],
    )
