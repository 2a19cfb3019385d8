"""Recovery: the rate, the jobs and their attempts after kill -9 of a worker's children under load."""

import bisect
import collections
import dataclasses
import math
import random
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil

from benchmarks import queue_rate
from benchmarks.journal import forget_journal, read_journal
from benchmarks.marks import Marks
from benchmarks.processes import Workshop
from benchmarks.queue_sides import CONCURRENCY, LANE, MANY, Pgreact, daemon_and_worker, install
from benchmarks.report import Report
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from tests.servers import redis_server

TASK = "bench.recorded"
LEASE = 5.0  # seconds
BACKLOG = 6 * MANY  # jobs that wait, at least
WINDOW = 1.0  # seconds over which a rate is taken
BACK = 0.8  # the part of the rate before the kills at which it is back
SAMPLE = 0.05  # seconds between two readings of the counters
DEADLINE = 60.0
_CONFIGURATION = f"""
[queue]
max_in_progress = 1000
lease = "{LEASE:g}s"
retention = "1h"
"""
_TWICE = "select count(*) from (select from pgreact.history group by id, attempt having count(*) > 1) t"
_LOST = "select count(*) from pgreact.history where outcome = 'lost'"
_DONE = "select count(*), count(distinct id) from pgreact.history where outcome = 'done' and task = %s"


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of kills, and the seconds before the first and after each."""

    kills: int
    before: float
    pause: float


FULL = Size(kills=10, before=10, pause=6)
QUICK = Size(kills=3, before=4, pause=3)


@dataclasses.dataclass(frozen=True)
class Sample:
    """The number of ended runs at a time."""

    at: float
    ended: int


class Load(threading.Thread):
    """Keeps jobs waiting, by a session of its own."""

    def __init__(self, side: Pgreact, marks: Marks) -> None:
        """Prepare the thread.

        Args:
            side: Enqueues the jobs.
            marks: Count the ended ones.
        """
        super().__init__(daemon=True)
        self._side = side
        self._marks = marks
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._before = marks.ended()[0]
        self.enqueued = 0

    def run(self) -> None:
        try:
            while not self._stopped.wait(SAMPLE):
                while self.enqueued - (self._marks.ended()[0] - self._before) < BACKLOG:
                    numbers = range(self.enqueued, self.enqueued + MANY)
                    self._side.enqueue([{"task": TASK, "args": [number]} for number in numbers])
                    self.enqueued += MANY
        except Exception as failure:  # noqa: BLE001 - the bench reports it
            self._failure = failure

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise PgreactError(f"the load ended: {self._failure}") from self._failure

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join(DEADLINE)
        self.check()


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with (
        Workshop() as workshop,
        EmbeddedPostgres(settings={"shared_buffers": "128MB"}) as postgres,
        redis_server() as broker,
    ):
        place = workshop.directory / "marks"
        dsn = install(workshop, postgres, "recovery", _CONFIGURATION)
        with (
            Marks(place) as marks,
            daemon_and_worker(workshop, dsn, broker.url, place, lanes=[LANE]) as processes,
            closing(Pgreact(dsn, None, **processes)) as side,
            closing(Pgreact(dsn, None, **processes)) as feeder,
        ):
            _warm_up(side, marks, broker.url)
            forget_journal(place)
            load = Load(feeder, marks)
            load.start()
            samples, kills = _kill(load, marks, processes["worker"], size)
            load.stop()
            _drain(side)
            _print(report, side, place, load.enqueued, samples, kills)


def _warm_up(side: Pgreact, marks: Marks, broker: str) -> None:
    """Run jobs until they share messages."""
    queue_rate.warm_up({LANE: side}, marks, broker)
    deadline = time.monotonic() + DEADLINE
    while not side.is_short(TASK):
        if time.monotonic() > deadline:
            raise PgreactError(f"runs of {TASK} were not measured to be short in {DEADLINE:g} s")
        side.enqueue([{"task": TASK, "args": [-1]}] * 8)
        _drain(side)
    side.connection.execute("truncate pgreact.history")


def _kill(load: Load, marks: Marks, worker: psutil.Process, size: Size) -> tuple[list[Sample], list[float]]:
    """Kill children of the worker under load; return samples, and the times of the kills."""
    samples: list[Sample] = []
    kills: list[float] = []
    began = time.monotonic()
    due = [began + WINDOW + size.before + number * size.pause for number in range(size.kills)]
    end = due[-1] + LEASE + 2 + 2 * WINDOW
    while (now := time.monotonic()) < end:
        # a reading can meet a counter that is being written, and is then too low
        known = samples[-1].ended if samples else 0
        samples.append(Sample(now, max(known, marks.ended()[0])))
        load.check()
        if len(kills) < len(due) and now >= due[len(kills)]:
            children = worker.children()
            if not children:
                raise PgreactError("the worker has no children")
            kills.append(time.monotonic())
            random.choice(children).kill()
        time.sleep(SAMPLE)
    return samples, kills


def _drain(side: Pgreact) -> None:
    deadline = time.monotonic() + DEADLINE
    while not side.settled():
        if time.monotonic() > deadline:
            raise PgreactError(f"some jobs are not settled {DEADLINE:g} s after the last was enqueued")
        time.sleep(SAMPLE)


def _rates(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return the jobs a second of each window, by the time of its begin."""
    times = [sample.at for sample in samples]
    rates = []
    for first in samples:
        index = bisect.bisect_left(times, first.at + WINDOW)
        if index == len(samples):
            break
        last = samples[index]
        rates.append((first.at, (last.ended - first.ended) / (last.at - first.at)))
    return rates


def _print(
    report: Report, side: Pgreact, place: Path, enqueued: int, samples: list[Sample], kills: list[float]
) -> None:
    rates = _rates(samples)
    before = [rate for at, rate in rates if at + WINDOW < kills[0]]
    usual = statistics.median(before)
    backs = [
        next((at - kill for at, rate in rates if at >= kill and rate >= BACK * usual), math.inf)
        for kill in kills
    ]
    lowest = [min(rate for at, rate in rates if kill <= at <= kill + WINDOW) for kill in kills]
    begun, ended, repeats = _read(place, kills)
    done, jobs_done = _counts(side, _DONE, TASK)
    (lost,) = _counts(side, _LOST)
    (twice,) = _counts(side, _TWICE)
    report.table(
        f"kill -9 of a child, {CONCURRENCY} places, lease {LEASE:g} s",
        ["least jobs/s", "rate back, s", "runs repeated", "the last after, s"],
        [
            (
                f"after {kill - samples[0].at:.1f} s",
                [f"{low:,.0f}", f"{back:.2f}", str(len(again)), f"{max(again):.2f}" if again else ""],
            )
            for kill, low, back, again in zip(kills, lowest, backs, repeats, strict=True)
        ],
    )
    report.note(
        f"{usual:,.0f} jobs/s before the kills ({min(before):,.0f} to {max(before):,.0f}); "
        f"{enqueued:,} jobs; {done:,} attempts done, {lost} lost"
    )
    report.bar(f"longest time from a kill until {BACK:.0%} of the rate", max(backs), LEASE + 2, " s")
    report.bar(
        "longest time from a kill until a run it cut off is repeated",
        max((seconds for again in repeats for seconds in again), default=0.0),
        LEASE + 2,
        " s",
    )
    report.bar("jobs that did not run to their end", len(set(range(enqueued)) - ended), 0)
    report.bar(
        "jobs that are not done in the history, or twice", abs(enqueued - jobs_done) + done - jobs_done, 0
    )
    report.bar("attempts whose body began twice", sum(1 for count in begun.values() if count > 1), 0)
    report.bar("attempts settled twice", twice, 0)


def _read(
    place: Path, kills: Sequence[float]
) -> tuple[collections.Counter[tuple[int, bytes]], set[int], list[list[float]]]:
    """Read the journal.

    Returns:
        How often the body of each attempt began; the jobs that ran to their end; for each kill, the seconds
        until each job whose run was not settled before it began again.
    """
    begun: collections.Counter[tuple[int, bytes]] = collections.Counter()
    begins: dict[int, list[float]] = collections.defaultdict(list)
    ended: set[int] = set()
    for entry in read_journal(place):
        if entry.ended:
            ended.add(entry.number)
        else:
            begun[entry.number, entry.claim] += 1
            begins[entry.number].append(entry.at)
    repeats: list[list[float]] = [[] for _ in kills]
    for times in begins.values():
        for first, again in zip(sorted(times), sorted(times)[1:], strict=False):
            index = bisect.bisect_left(kills, first)
            if index < len(kills):
                repeats[index].append(again - kills[index])
    return begun, ended, repeats


def _counts(side: Pgreact, query: str, *values: object) -> tuple[int, ...]:
    row = side.connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return tuple(int(value) for value in row)
