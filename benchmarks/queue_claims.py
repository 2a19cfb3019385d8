"""Cost of a claim by the number of waiting jobs."""

import random
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import psycopg

from benchmarks.processes import Workshop
from benchmarks.queue_sides import install
from benchmarks.report import Report, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres

LANES = 200
KEYS = 20
BATCH = 100
IN_PROGRESS = 500
DISK = 6e9  # bytes of 10⁷ rows, with indexes, WAL and sort files

AT_ONCE = 10**5  # rows for a dispatcher whose plans are of an almost empty queue

FULL = ({"10⁴": 10**4, "10⁶": 10**6, "10⁷": 10**7}, 60)  # rows, claims of each
QUICK = ({"10⁴": 10**4, "10⁶": 10**6}, 30)

SETTINGS = {
    "autovacuum": "off",  # vacuum is called explicitly
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
# Half of the rows are of a paused lane, a tenth of a few keys. What a claim finds of these the first time it
# sets 'blocked', once for each row; that is done here.
_LANES = f"""
insert into pgreact.lane (name, paused)
select 'lane' || n, false from generate_series(1, {LANES}) n union all select 'deep', true
"""
_ROWS = f"""
insert into pgreact.queue (state, lane, task, kwargs, priority, run_at, key)
select case when r.key is null then 'ready' else 'blocked' end, r.lane, 'bench.noop', '{{"user_id": 42}}',
    floor(3 * random()), timestamptz '2026-01-01' + n * interval '1 ms', r.key
from generate_series(1, %s) n
cross join lateral (
    select case when n %% 2 = 0 then 'deep' else 'lane' || 1 + floor({LANES} * random()) end as lane,
        case when n %% 2 = 1 and random() < 0.2 then 'hot' || floor({KEYS} * random()) end as key
) r
"""
_FIRST = """
update pgreact.queue set state = 'ready'
where id in (select min(id) from pgreact.queue where key is not null group by key)
"""
# Settle the jobs that were claimed first and enqueue equal ones, so that the backlog keeps its size.
_NEXT = """
with done as materialized (
    select p.id, p.claim_id, p.lane, p.priority, p.key, p.task, p.kwargs
    from pgreact.in_progress p
    order by p.claimed_at, p.id
    limit %s
)
insert into pgreact.queue (state, lane, task, kwargs, priority, key)
select case when d.key is null then 'ready' else 'blocked' end, d.lane, d.task, d.kwargs, d.priority, d.key
from done d
where pgreact.settle(d.id, d.claim_id, 'done')
"""


class Backlog:
    """A database whose queue holds a given number of rows."""

    def __init__(self, dsn: str, rows: int, *, at_once: bool = False) -> None:
        """Fill the queue.

        Args:
            dsn: A database with pgreact's queue.
            rows: The number of rows.
            at_once: Fill it after the dispatcher's first claims, and without ANALYZE.
        """
        self._dispatcher = psycopg.connect(dsn, autocommit=True)
        self._worker = psycopg.connect(dsn, autocommit=True)
        self.seconds: list[float] = []  # of each claim
        self.fewest = BATCH  # the smallest number of jobs in a claim
        self._worker.execute(_LANES.encode())
        self._worker.execute(f"update pgreact.queue_setting set max_in_progress = {2 * IN_PROGRESS}")
        if at_once:
            self._know_few()
            with muted(self._worker) as connection:
                connection.execute(_ROWS.encode(), (rows,))
                connection.execute(_FIRST.encode())
        else:
            load(self._worker, (_ROWS, (rows,)), (_FIRST, ()))
        for _ in range(IN_PROGRESS // BATCH):
            self._claim()
        self._process = psutil.Process(self._dispatcher.info.backend_pid)
        self._began = self._used()

    def claim_once(self) -> None:
        """Claim one batch, and settle as many jobs."""
        jobs, seconds = self._claim()
        self.seconds.append(seconds)
        self.fewest = min(self.fewest, jobs)
        with muted(self._worker) as connection:
            connection.execute(_NEXT.encode(), (jobs,))

    @property
    def cpu(self) -> float:
        """CPU seconds of a claim in PostgreSQL."""
        return (self._used() - self._began) / len(self.seconds)

    @property
    def size(self) -> int:
        """The size of the queue with its indexes, in bytes."""
        row = self._worker.execute("select pg_total_relation_size('pgreact.queue')").fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()
        self._worker.close()

    def _know_few(self) -> None:
        """Let the dispatcher plan its statements for a queue that is almost empty."""
        for _ in range(10):
            self._worker.execute("insert into pgreact.queue (task, lane) values ('bench.noop', 'lane1')")
            self._claim()

    def _claim(self) -> tuple[int, float]:
        """Claim; return the number of jobs and the seconds."""
        return claim(self._dispatcher, BATCH)

    def _used(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    sizes, claims = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(EmbeddedPostgres(settings=SETTINGS))
        free = shutil.disk_usage(postgres.directory).free
        if max(sizes.values()) > 10**6 and free < DISK:
            report.note(f"10⁷ rows need {DISK / 1e9:.0f} GB on the disk; {free / 1e9:.1f} are free: left out")
            sizes, _ = QUICK
        backlogs: dict[str, Backlog] = {}
        for number, (name, rows) in enumerate(sizes.items()):
            backlogs[name] = Backlog(install(workshop, postgres, f"backlog{number}"), rows)
            stack.callback(backlogs[name].close)
        backlogs["10⁵"] = Backlog(install(workshop, postgres, "at_once"), AT_ONCE, at_once=True)
        stack.callback(backlogs["10⁵"].close)
        for _ in range(claims):
            for backlog in random.sample(list(backlogs.values()), len(backlogs)):
                backlog.claim_once()
        _print(report, backlogs)


def _print(report: Report, backlogs: dict[str, Backlog]) -> None:
    report.table(
        f"claim({BATCH}), ms",
        ["p50", "p95", "CPU", "claimed", "queue MB"],
        [
            (
                f"{name} rows wait" if name != "10⁵" else "10⁵ rows came at once",
                [
                    ms(statistics.median(backlog.seconds)),
                    ms(percentile(backlog.seconds, 95)),
                    ms(backlog.cpu),
                    str(backlog.fewest),
                    f"{backlog.size / 1e6:,.0f}",
                ],
            )
            for name, backlog in backlogs.items()
        ],
    )
    report.note(
        f"{LANES} lanes; half of the rows in one more that is paused, a tenth on {KEYS} keys; "
        f"{IN_PROGRESS} in progress"
    )
    p50 = {name: statistics.median(backlog.seconds) for name, backlog in backlogs.items()}
    first, *_, last, at_once = p50
    report.bar(f"p50 of a claim: {last} / {first} rows", p50[last] / p50[first], 1.3)
    report.bar(f"p50 of a claim: {at_once} rows that came at once / {first}", p50[at_once] / p50[first], 1.5)
    least = min(backlog.fewest for backlog in backlogs.values())
    report.bar("jobs of each such claim", least, BATCH, least=True)


def load(connection: psycopg.Connection[Any], *statements: tuple[str, Sequence[object]]) -> None:
    """Fill an empty queue.

    Args:
        connection: A session that commits by itself.
        *statements: Statements that insert the rows or, with all indexes, change them, and their values.
    """
    # after TRUNCATE in the same transaction, rows need no WAL; building whole indexes is faster
    (inserts, values), *changes = statements
    with muted(connection):
        connection.execute("truncate pgreact.queue")
        indexes = connection.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) "
            "from pg_index where indrelid = 'pgreact.queue'::regclass and not indisprimary"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"drop index {name}".encode())
        connection.execute(inserts.encode(), values)
        for _, definition in indexes:
            connection.execute(definition.encode())
        for change, values in changes:
            connection.execute(change.encode(), values)
    connection.execute("vacuum (analyze) pgreact.queue")


def claim(dispatcher: psycopg.Connection[Any], batch: int) -> tuple[int, float]:
    """Claim jobs.

    Args:
        dispatcher: The session of the claim.
        batch: The most jobs.

    Returns:
        The number of jobs, and the seconds of the claim.
    """
    began = time.perf_counter()
    row = dispatcher.execute("select pgreact.claim(%s)", (batch,)).fetchone()
    seconds = time.perf_counter() - began
    assert row is not None
    return int(row[0]["claimed"]), seconds


@contextmanager
def muted(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that signals nothing."""
    with connection.transaction():
        connection.execute("select pgreact.mute()")
        yield connection
