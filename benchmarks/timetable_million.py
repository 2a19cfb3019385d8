"""The timetable with up to a million schedules: whether start, edits, idling, memory and views stay flat.

All sizes run at the same time, each in a database of its own, and are measured by turns.
"""

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import timetable_idle
from benchmarks.processes import Workshop
from benchmarks.report import Report, ms, percentile
from benchmarks.timetable_entries import waiting
from benchmarks.timetable_idle import FLAT, Reading, Row
from benchmarks.timetable_ours import Direct, Ours, Queue
from benchmarks.timetable_sides import Running
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.postgres.queries import query
from tests.servers import redis_server

COUNTS = 1000, 100_000, 1_000_000  # of schedules
QUICK = 1000, 20_000
FIRST = 1  # the number of the schedule that is due at each start
PAUSE = (0.001, 0.01)  # seconds from the message of an edit to the next edit
SETTLING = 12.0  # seconds; PostgreSQL counts transactions up to 10 s late
VIEW = 0.05  # seconds
VIEWS: Mapping[str, Mapping[str, object]] = {
    "timetable_overview": {},
    "metrics_schedules": {},
    "schedule_names": {"name": "idle 123456x"},
    **{
        f"schedule_list {which or 'all'}": {"pattern": None, "after": None, "limit": 101, "which": which}
        for which in (None, "enabled", "disabled", "overdue", "failed", "ended")
    },
}


def run(report: Report, *, quick: bool) -> None:
    """Run the bench."""
    counts, rounds, edits, idle = (QUICK, 1, 10, 21.0) if quick else (COUNTS, 5, 200, 60.0)
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(
            EmbeddedPostgres(settings={"shared_buffers": "128MB", "autovacuum": "off", "max_wal_size": "4GB"})
        )
        broker = stack.enter_context(redis_server()).url
        report.note(
            f"PostgreSQL {postgres.major}, which flushes nothing; Redis; messages are counted, not sent"
        )
        sides: dict[Row, Ours] = {}
        numbers = range(FIRST, FIRST + 1 + edits)
        for count in counts:
            for kind in (Queue, Direct):
                side: Ours = kind(workshop, broker, postgres, f"{kind.delivery}_{count}")
                stack.callback(side.close)
                side.fill(count, [waiting(number) for number in numbers[: 1 + edits // 2]])
                sides[side.name, count] = side
        starts = _starts(sides, rounds)
        running = {row: stack.enter_context(_started(side)) for row, side in sides.items()}
        edited = _edits(sides, running, numbers[1:])
        views = {row: _views(side, rounds) for row, side in sides.items()}
        for side in sides.values():
            side.forget_jobs()
            side.flush_counts()
        time.sleep(min(SETTLING, idle))
        watch = timetable_idle.Watch(running)
        time.sleep(idle)
        minute = watch.minute()
        memory = {row: beat.process.memory_info().rss for row, beat in running.items()}
    _print(report, starts, edited, minute, memory)
    _print_views(report, views)


@contextmanager
def _started(side: Ours) -> Iterator[Running]:
    """Run a side during the block, which begins when it has sent what was due."""
    side.hurry(waiting(FIRST))
    with side.running() as running:
        running.sent(FIRST)
        yield running


def _starts(sides: Mapping[Row, Ours], rounds: int) -> dict[Row, float]:
    """Start each side by turns; return the median seconds until the schedule that is due was sent."""
    found: dict[Row, list[float]] = {row: [] for row in sides}
    for _ in range(rounds):
        for row, side in sides.items():
            side.hurry(waiting(FIRST))
            with side.running() as running:
                found[row].append(running.sent(FIRST) - running.started)
    return {row: statistics.median(sample) for row, sample in found.items()}


def _edits(
    sides: Mapping[Row, Ours], running: Mapping[Row, Running], numbers: Sequence[int]
) -> dict[Row, list[float]]:
    """Make schedules due, or add due ones, on each side by turns; return the seconds until each was sent."""
    found: dict[Row, list[float]] = {row: [] for row in sides}
    stored = numbers[: len(numbers) // 2]
    for number in random.sample(numbers, len(numbers)):
        for row, side in sides.items():
            time.sleep(random.uniform(*PAUSE))
            began = time.monotonic()
            if number in stored:
                side.hurry(waiting(number))
            else:
                side.insert(waiting(number))
            found[row].append(running[row].sent(number) - began)
    return found


def _views(side: Ours, rounds: int) -> dict[str, float]:
    """Return the median seconds of each view."""

    def seconds(name: str) -> float:
        began = time.monotonic()
        side.connection.execute(query(name.partition(" ")[0]).encode(), VIEWS[name]).fetchall()
        return time.monotonic() - began

    return {name: statistics.median(seconds(name) for _ in range(rounds)) for name in VIEWS}


def _print(
    report: Report,
    starts: Mapping[Row, float],
    edited: Mapping[Row, Sequence[float]],
    minute: Mapping[Row, Reading],
    memory: Mapping[Row, int],
) -> None:
    report.table(
        "schedules",
        ["", "start, ms", "edit → sent p50, ms", "p99", "idle CPU, ms/min", "statements/min", "RSS, MB"],
        [
            (
                name,
                [
                    f"{count:,}",
                    ms(starts[name, count]),
                    ms(statistics.median(edited[name, count])),
                    ms(percentile(edited[name, count], 99)),
                    f"{minute[name, count].cpu * 1000:.1f}",
                    f"{minute[name, count].statements:.0f}",
                    f"{memory[name, count] / 1e6:.1f}",
                ],
            )
            for name, count in starts
        ],
    )
    for name, few, most in _extremes(starts):
        p99 = [percentile(edited[name, count], 99) for count in (few, most)]
        for what, numbers in (
            ("start", [starts[name, count] for count in (few, most)]),
            ("edit → sent p99", p99),
            ("CPU of an idle minute", [minute[name, count].cpu for count in (few, most)]),
            ("memory", [memory[name, count] for count in (few, most)]),
        ):
            report.bar(f"{name}: {what}, {most:,} by {few:,} schedules", numbers[1] / numbers[0], FLAT)
        statements = minute[name, most].statements
        report.bar(f"{name}: statements in an idle minute, {most:,}", statements, timetable_idle.STATEMENTS)


def _print_views(report: Report, views: Mapping[Row, Mapping[str, float]]) -> None:
    rows = [row for row in views if row[0] == Direct.name]
    report.table(
        "views, ms",
        [f"{count:,}" for _, count in rows],
        [(view, [ms(views[row][view]) for row in rows]) for view in VIEWS],
    )
    slowest = max(views[rows[-1]].values())
    report.bar(f"slowest view of {rows[-1][1]:,} schedules", slowest * 1000, VIEW * 1000, " ms")


def _extremes(rows: Mapping[Row, float]) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each side, its fewest and its most schedules."""
    for name in dict.fromkeys(name for name, _ in rows):
        counts = [count for other, count in rows if other == name]
        yield name, min(counts), max(counts)
