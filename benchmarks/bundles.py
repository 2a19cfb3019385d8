"""Bundles beside other jobs: short jobs among long ones, lanes with limits, an old snapshot."""

import dataclasses
import itertools
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import queue_rate
from benchmarks.journal import forget_journal, read_journal
from benchmarks.marks import Marks
from benchmarks.processes import Workshop
from benchmarks.queue_sides import CONCURRENCY, LANE, SINGLE, Pgreact, daemon_and_worker, install
from benchmarks.report import Report, median_and_spread, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from tests.servers import redis_server

PLACES = 8  # of the worker of short and long jobs
SHORT, LONG = "bench.short", "bench.long"
ROOMY, TIGHT = "roomy", "tight"  # lanes with a limit that does not bind, and with a job for each place
DEADLINE = 60.0
NAMES = {
    LANE: "bundles",
    SINGLE: "bundle = 1",
    ROOMY: "bundles, max_in_progress = 10000",
    TIGHT: f"bundles, max_in_progress = {CONCURRENCY}",
}
_SETTINGS = {"shared_buffers": "128MB", "autovacuum_naptime": "5s"}
_CONFIGURATION = f"""
[queue]
max_in_progress = 1000

[lanes.{SINGLE}]
bundle = 1

[lanes.{ROOMY}]
max_in_progress = 10000

[lanes.{TIGHT}]
max_in_progress = {CONCURRENCY}
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int
    short: int  # jobs in each round, for each side
    long: int
    jobs: int  # no-op jobs in each round, for each side; slow sides get fewer, see `FEWER`
    held_rounds: int  # with and without a held snapshot; the second half counts


FULL = Size(rounds=5, short=600, long=12, jobs=16_000, held_rounds=10)
QUICK = Size(rounds=1, short=200, long=4, jobs=2_000, held_rounds=2)
FEWER = {SINGLE: 8}

_numbers = itertools.count(1)


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with (
        Workshop() as workshop,
        EmbeddedPostgres(settings=_SETTINGS) as postgres,
        redis_server() as broker,
        redis_server() as other,
    ):
        report.note(f"PostgreSQL {postgres.major}, fsync = off; Redis")
        _mixed(report, workshop, postgres, broker.url, size)
        _limits(report, workshop, postgres, broker.url, size)
        _snapshot(report, workshop, postgres, (broker.url, other.url), size)


@contextmanager
def _sides(
    workshop: Workshop,
    postgres: EmbeddedPostgres,
    broker: str,
    name: str,
    lanes: Sequence[str],
    concurrency: int = CONCURRENCY,
) -> Iterator[tuple[dict[str, Pgreact], Marks, Path]]:
    """Run a daemon and a worker for the lanes, in a database of their own."""
    place = workshop.directory / f"marks-{name}"
    dsn = install(workshop, postgres, name, _CONFIGURATION)
    with ExitStack() as stack:
        marks = stack.enter_context(Marks(place))
        processes = stack.enter_context(
            daemon_and_worker(workshop, dsn, broker, place, lanes=lanes, concurrency=concurrency)
        )
        sides = {lane: Pgreact(dsn, None if lane == LANE else lane, **processes) for lane in lanes}
        for side in sides.values():
            stack.callback(side.close)
        yield sides, marks, place


# ---- short jobs among long ones ----------------------------------------------------------------------------


def _mixed(report: Report, workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size) -> None:
    found: list[dict[str, list[float]]] = []
    with _sides(workshop, postgres, broker, "mixed", (LANE, SINGLE), PLACES) as (sides, marks, place):
        _until_short(sides[LANE], marks)
        for _ in range(size.rounds):
            this = {
                lane: _waits(sides[lane], marks, place, size)
                for lane in random.sample(list(sides), len(sides))
            }
            found.append({lane: this[lane] for lane in sides})
    report.table(
        f"wait of jobs of 5 ms among jobs of 1 s, {PLACES} places, ms",
        ["mean", "least", "most", "p99"],
        [
            (
                NAMES[lane],
                [
                    *(
                        ms(mean)
                        for mean in median_and_spread([statistics.mean(this[lane]) for this in found])
                    ),
                    ms(percentile([wait for this in found for wait in this[lane]], 99)),
                ],
            )
            for lane in sides
        ],
    )
    ratios = [statistics.mean(this[LANE]) / statistics.mean(this[SINGLE]) for this in found]
    report.bar_of_rounds("mean wait of short jobs among long ones: bundles / bundle = 1", ratios, 1)


def _until_short(side: Pgreact, marks: Marks) -> None:
    """Run short jobs until the queue has measured them.

    Raises:
        PgreactError: It does not, in time.
    """
    deadline = time.monotonic() + DEADLINE
    while not side.is_short(SHORT):
        if time.monotonic() > deadline:
            raise PgreactError(f"runs of {SHORT} were not measured to be short in {DEADLINE:g} s")
        _run(side, marks, [{"task": SHORT, "args": [next(_numbers)]} for _ in range(PLACES)])


def _waits(side: Pgreact, marks: Marks, place: Path, size: Size) -> list[float]:
    """Run short and long jobs in random order; return the seconds from commit to start of the short ones."""
    forget_journal(place)
    tasks = [SHORT] * size.short + [LONG] * size.long
    random.shuffle(tasks)
    numbered = {next(_numbers): task for task in tasks}
    committed = _run(side, marks, [{"task": task, "args": [number]} for number, task in numbered.items()])
    begins = {entry.number: entry.at for entry in read_journal(place)}
    return [begins[number] - committed for number, task in numbered.items() if task == SHORT]


def _run(side: Pgreact, marks: Marks, jobs: Sequence[Mapping[str, Any]]) -> float:
    """Run jobs until all are settled; return when they were committed.

    Raises:
        PgreactError: They take too long.
    """
    before, _ = marks.ended()
    side.enqueue(jobs)
    committed = time.monotonic()
    while marks.ended()[0] < before + len(jobs) or not side.settled():
        if time.monotonic() > committed + DEADLINE:
            raise PgreactError(f"{len(jobs)} jobs took more than {DEADLINE:g} s")
        time.sleep(0.01)
    return committed


# ---- lanes with limits -------------------------------------------------------------------------------------


def _limits(report: Report, workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size) -> None:
    lanes = (LANE, ROOMY, SINGLE, TIGHT)
    with _sides(workshop, postgres, broker, "limits", lanes) as (sides, marks, _):
        queue_rate.warm_up(sides, marks, broker)
        jobs = {lane: size.jobs // FEWER.get(lane, 1) for lane in sides}
        found = queue_rate.measure(sides, marks, broker, rounds=size.rounds, jobs=jobs)
    report.table(
        f"no-op jobs, {CONCURRENCY} places",
        ["jobs/s", "least", "most"],
        [
            (NAMES[lane], [f"{rate:,.0f}" for rate in median_and_spread([this[lane].rate for this in found])])
            for lane in sides
        ],
    )
    for lane in (ROOMY, TIGHT):
        ratios = [this[lane].rate / this[LANE].rate for this in found]
        report.bar_of_rounds(f"jobs/s: {NAMES[lane]} / {NAMES[LANE]}", ratios, 0.9, least=True)


# ---- an old snapshot ---------------------------------------------------------------------------------------


def _snapshot(
    report: Report, workshop: Workshop, postgres: EmbeddedPostgres, brokers: tuple[str, str], size: Size
) -> None:
    """Compare two databases: a snapshot holds back the vacuum of its own database only."""
    found: list[dict[str, queue_rate.Run]] = []
    with ExitStack() as stack:
        sides = {
            name: (*stack.enter_context(_sides(workshop, postgres, broker, name, [LANE]))[:2], broker)
            for name, broker in zip(("vacuumed", "held"), brokers, strict=True)
        }
        for each, marks, broker in sides.values():
            queue_rate.warm_up(each, marks, broker)
        reader = stack.enter_context(psycopg.connect(postgres.dsn("held")))
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select from pgreact.lane")
        for _ in range(size.held_rounds):
            this = {}
            for name in random.sample(list(sides), len(sides)):
                each, marks, broker = sides[name]
                this[name] = queue_rate.run_noops(each[LANE], marks, broker, size.jobs)
            found.append(this)
        dead = {name: _dead_rows(each[LANE]) for name, (each, _, _) in sides.items()}
    report.table(
        "no-op jobs/s, beside a session with an old snapshot",
        ["without", "with", "ratio"],
        [
            (
                f"until {(number + 1) * size.jobs:,} jobs",
                [
                    f"{this['vacuumed'].rate:,.0f}",
                    f"{this['held'].rate:,.0f}",
                    f"{this['held'].rate / this['vacuumed'].rate:.2f}",
                ],
            )
            for number, this in enumerate(found)
        ],
    )
    report.note(f"dead rows at the end: {dead['vacuumed']:,} without, {dead['held']:,} with")
    ratios = [this["held"].rate / this["vacuumed"].rate for this in found[len(found) // 2 :]]
    report.bar_of_rounds("jobs/s beside an old snapshot / without, second half", ratios, 0.8, least=True)


def _dead_rows(side: Pgreact) -> int:
    row = side.connection.execute(
        "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables where schemaname = 'pgreact'"
    ).fetchone()
    assert row is not None
    return int(row[0])
