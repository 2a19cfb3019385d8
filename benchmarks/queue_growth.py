"""Growth of the tables after many jobs, and its cost for a claim."""

import dataclasses
import json
import statistics
import time
from contextlib import closing
from typing import Any

import psycopg

from benchmarks.processes import Workshop
from benchmarks.queue_sides import install
from benchmarks.report import Report, ms
from pgreact.demo.postgres import EmbeddedPostgres

BATCH = 100
WAITING = 1000  # jobs in the queue
IN_PROGRESS = 500
LANES = 10
READINGS = 10

# Jobs, and autovacuum_naptime in seconds: with the default of a minute, a short run would see no vacuum.
FULL = (400_000, 5)
QUICK = (16_000, 1)

_NOT_STARTED = "select id, claim_id from pgreact.in_progress where started_at is null"
_OLDEST = "select id, claim_id from pgreact.in_progress order by claimed_at, id limit %s"
_SIZES = """
select
    pg_relation_size('pgreact.queue'), pg_indexes_size('pgreact.queue'),
    pg_relation_size('pgreact.in_progress'), pg_indexes_size('pgreact.in_progress'),
    sum(s.n_dead_tup)::bigint, sum(s.autovacuum_count)::bigint
from pg_stat_user_tables s
where s.relid in ('pgreact.queue'::regclass, 'pgreact.in_progress'::regclass)
"""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Sizes and costs after a number of jobs."""

    jobs: int
    sizes: tuple[int, int, int, int]  # bytes: queue, its indexes, in_progress, its indexes
    dead: int  # rows
    vacuums: int
    claims: list[float]  # seconds, since the reading before

    @property
    def bytes(self) -> int:
        """The sum of all sizes, in bytes."""
        return sum(self.sizes)

    @property
    def claim(self) -> float:
        """The median seconds of a claim."""
        return statistics.median(self.claims)


class Mill:
    """Jobs that take all their steps in SQL, many in a statement, without a broker."""

    def __init__(self, dsn: str) -> None:
        """Connect.

        Args:
            dsn: A database with pgreact's queue.
        """
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("set pgreact.muted = on")
        self._connection.execute(
            f"insert into pgreact.lane (name) select 'lane' || n from generate_series(1, {LANES}) n"
        )
        self._enqueued = 0
        self._in_progress = 0
        self.settled = 0
        self.claims: list[float] = []
        self.spent = dict.fromkeys(("enqueue", "claim", "start", "settle"), 0.0)

    def run_batch(self) -> None:
        """Take a batch of jobs through all steps."""
        while self._enqueued - self.settled - self._in_progress < WAITING:
            first = self._enqueued
            jobs = [
                {"task": "bench.noop", "args": [first + n], "lane": f"lane{(first + n) % LANES + 1}"}
                for n in range(WAITING)
            ]
            self._time("enqueue", "select count(*) from pgreact.enqueue_many(%s)", json.dumps(jobs))
            self._enqueued += WAITING
        before = self.spent["claim"]
        answer = self._time("claim", "select pgreact.claim(%s)", BATCH)
        self.claims.append(self.spent["claim"] - before)
        self._in_progress += answer["claimed"]
        self._time("start", f"select count(pgreact.start(id, claim_id, 0, 'bench')) from ({_NOT_STARTED}) p")
        if self._in_progress >= IN_PROGRESS:
            settled = self._time(
                "settle",
                f"select count(*) filter (where pgreact.settle(id, claim_id, 'done')) from ({_OLDEST}) p",
                BATCH,
            )
            self._in_progress -= settled
            self.settled += settled

    def go(self, jobs: int) -> Reading:
        """Settle more jobs, and return a reading."""
        end = self.settled + jobs
        while self.settled < end:
            self.run_batch()
        if self._connection.info.server_version >= 150000:
            self._connection.execute("select pg_stat_force_next_flush()")
        row = self._connection.execute(_SIZES.encode()).fetchone()
        assert row is not None
        claims, self.claims = self.claims, []
        return Reading(self.settled, row[:4], row[4], row[5], claims)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _time(self, step: str, statement: str, *values: object) -> Any:
        began = time.perf_counter()
        row = self._connection.execute(statement.encode(), values or None).fetchone()
        self.spent[step] += time.perf_counter() - began
        assert row is not None
        return row[0]


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    jobs, nap = QUICK if quick else FULL
    with (
        Workshop() as workshop,
        EmbeddedPostgres(settings={"shared_buffers": "128MB", "autovacuum_naptime": f"{nap}s"}) as postgres,
    ):
        dsn = install(workshop, postgres, "growth")
        with closing(Mill(dsn)) as mill:
            began = time.perf_counter()
            readings = [mill.go(jobs // READINGS) for _ in range(READINGS)]
            seconds = time.perf_counter() - began
            spent = dict(mill.spent)
            with psycopg.connect(dsn) as reader:  # an open snapshot holds back vacuum
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select from pgreact.lane")
                held = mill.go(jobs // READINGS)
    _print(report, readings, held)
    report.table(
        "µs of a job within PostgreSQL",
        [*spent, "all"],
        [
            (
                f"{jobs:,} jobs in {seconds:.0f} s",
                [f"{each / jobs * 1e6:.0f}" for each in (*spent.values(), sum(spent.values()))],
            )
        ],
    )
    report.note(
        f"autovacuum looks every {nap} s; {WAITING} jobs wait in {LANES} lanes, {IN_PROGRESS} in progress"
    )
    half = READINGS // 2
    report.bar(
        "size in the second half of the jobs / in the first",
        max(reading.bytes for reading in readings[half:]) / max(reading.bytes for reading in readings[:half]),
        1.5,
    )
    report.bar(
        "p50 of a claim: in the second half of the jobs / in the first",
        statistics.median(seconds for reading in readings[half:] for seconds in reading.claims)
        / statistics.median(seconds for reading in readings[:half] for seconds in reading.claims),
        1.5,
    )


def _print(report: Report, readings: list[Reading], held: Reading) -> None:
    report.table(
        "settled jobs, MB",
        ["queue", "indexes", "in_progress", "indexes", "dead rows", "vacuums", "claim ms"],
        [
            (
                name,
                [
                    *(f"{size / 1e6:.1f}" for size in reading.sizes),
                    f"{reading.dead:,}",
                    str(reading.vacuums),
                    ms(reading.claim),
                ],
            )
            for name, reading in [
                *((f"{reading.jobs:,}", reading) for reading in readings),
                (f"{held.jobs:,}, under an old snapshot", held),
            ]
        ],
    )
