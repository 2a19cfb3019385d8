"""Cost of a claim and of a settlement while a key or limits of lanes hold most jobs back."""

import dataclasses
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

import psutil
import psycopg

from benchmarks.processes import Workshop
from benchmarks.queue_claims import BATCH, SETTINGS, claim, load, muted
from benchmarks.queue_sides import install
from benchmarks.report import Report, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres

PLAIN = 10**4  # rows that nothing holds back
WAITING = 10**4  # rows of the key
FEW = 10  # rows of the key in another queue
LANES = 18

FULL = (860_000, 200)  # rows in lanes, claims of each queue
QUICK = (86_000, 20)
FULL_CLAIM = 0.9  # of the batch: places that blocked jobs leave free are the next claim's

_QUEUE = """
insert into pgreact.queue (state, lane, task, kwargs, run_at, key)
select r.state, r.lane, 'bench.noop', '{"user_id": 42}', timestamptz '2026-01-01' + n * interval '1 ms', r.key
"""
# The key's jobs come before the others, so that a claim finds all of them that are ready.
_KEYED = f"""
{_QUEUE}
from generate_series(1 - %s, %s) n
cross join lateral (
    select
        case when n > 0 or %s then 'ready' else 'blocked' end as state,
        'lane1' as lane,
        case when n <= 0 then 'hot' end as key
) r
"""
_FIRST = """
update pgreact.queue set state = 'ready' where id = (select min(id) from pgreact.queue where key is not null)
"""
_IN_LANES = f"""
{_QUEUE}
from generate_series(1, %s) n
cross join lateral (select 'ready' as state, 'lane' || 1 + n %% {LANES} as lane, null as key) r
"""
_LIMITS = f"""
insert into pgreact.lane (name, max_in_progress) select 'lane' || n, %s from generate_series(1, {LANES}) n
"""
_IN_PROGRESS = "select id, claim_id, lane, key from pgreact.in_progress order by key nulls last, id"
_SETTLE = "select pgreact.settle(%s, %s, 'done')"
_SETTLE_ALL = "select pgreact.settle(p.id, p.claim_id, 'done') from pgreact.in_progress p"
# A new job of the key comes before the others, too: the next claim sets it 'blocked'.
_ENQUEUE = """
insert into pgreact.queue (lane, task, kwargs, key, run_at)
select u.lane, 'bench.noop', '{"user_id": 42}', u.key,
    case when u.key is null then now() else timestamptz '2026-01-01' end
from unnest(%s::text[], %s::text[]) u (lane, key)
"""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A queue, and how it is claimed.

    Attributes:
        rows: The statement that inserts its rows, and its values.
        batch: The most jobs of a claim.
        limit: `max_in_progress` of each lane.
    """

    rows: tuple[str, Sequence[object]]
    batch: int
    limit: int | None = None


KEYED = {
    "10⁴ plain rows": Shape((_KEYED, (0, PLAIN, False)), BATCH),
    f"and {FEW} of one key": Shape((_KEYED, (FEW, PLAIN, False)), BATCH),
    "and 10⁴ of one key": Shape((_KEYED, (WAITING, PLAIN, False)), BATCH),
}
UNREAD = Shape((_KEYED, (WAITING, PLAIN, True)), BATCH)  # no claim has found the key's jobs yet


def _limited(rows: int) -> dict[str, Shape]:
    # each claim takes the same jobs, one of each lane
    full = f"max_in_progress = 1, claim({BATCH})"
    return {
        f"10⁴ plain rows, claim({LANES})": Shape((_IN_LANES, (PLAIN,)), LANES),
        f"10⁴ rows, {full}": Shape((_IN_LANES, (PLAIN,)), BATCH, limit=1),
        f"{rows:,} rows, {full}": Shape((_IN_LANES, (rows,)), BATCH, limit=1),
    }


class Contended:
    """A database whose queue has a shape, and what its claims and settlements took.

    Attributes:
        claims: Seconds of each claim.
        settlements: Seconds of one settlement after each claim: that of the key's job, if there is one.
        jobs: The number of jobs of each claim.
        keyed: How many of them have the key.
    """

    def __init__(self, dsn: str, shape: Shape) -> None:
        """Fill the queue.

        Args:
            dsn: A database with pgreact's queue.
            shape: Its rows and limits.
        """
        self._dispatcher = psycopg.connect(dsn, autocommit=True)
        self._worker = psycopg.connect(dsn, autocommit=True)
        self._batch = shape.batch
        self.claims: list[float] = []
        self.settlements: list[float] = []
        self.jobs: list[int] = []
        self.keyed: list[int] = []
        self._process = psutil.Process(self._dispatcher.info.backend_pid)
        self._began = 0.0
        self._worker.execute("update pgreact.queue_setting set max_in_progress = 1000")
        self._worker.execute(_LIMITS.encode(), (shape.limit,))
        load(self._worker, shape.rows, (_FIRST, ()))
        self._began = self._used()

    def claim_once(self) -> None:
        """Claim one batch, settle its jobs, and enqueue as many."""
        jobs, seconds = claim(self._dispatcher, self._batch)
        found = self._worker.execute(_IN_PROGRESS.encode()).fetchall()
        for job, claim_id, _, _ in found[:1]:  # none, if the claim found blocked jobs only
            began = time.perf_counter()
            self._worker.execute(_SETTLE.encode(), (job, claim_id))
            self.settlements.append(time.perf_counter() - began)
        self.claims.append(seconds)
        self.jobs.append(jobs)
        self.keyed.append(sum(key is not None for *_, key in found))
        with muted(self._worker) as connection:
            connection.execute(_SETTLE_ALL.encode())
            lanes, keys = [lane for _, _, lane, _ in found], [key for *_, key in found]
            connection.execute(_ENQUEUE.encode(), (lanes, keys))

    @property
    def cpu(self) -> float:
        """CPU seconds of a claim in PostgreSQL."""
        return (self._used() - self._began) / len(self.claims)

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()
        self._worker.close()

    def _used(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    rows, claims = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(EmbeddedPostgres(settings=SETTINGS))

        def measure(name: str, shapes: dict[str, Shape]) -> dict[str, Contended]:
            found: dict[str, Contended] = {}
            for number, (title, shape) in enumerate(shapes.items()):
                found[title] = Contended(install(workshop, postgres, f"{name}{number}"), shape)
                stack.callback(found[title].close)
            for _ in range(claims):
                for contended in random.sample(list(found.values()), len(found)):
                    contended.claim_once()
            return found

        _print_keyed(report, measure("keyed", KEYED))
        _print_limited(report, measure("limited", _limited(rows)), rows)
        unread = Contended(install(workshop, postgres, "unread"), UNREAD)
        stack.callback(unread.close)
        while not unread.jobs or unread.jobs[-1] < FULL_CLAIM * BATCH:
            unread.claim_once()
        report.note(
            f"10⁴ of one key that are all ready: {len(unread.claims) - 1} claims set them 'blocked' and took "
            f"{min(unread.jobs)} jobs at least; {ms(max(unread.claims))} ms the longest"
        )


def _print_keyed(report: Report, found: dict[str, Contended]) -> None:
    _table(report, "one key", found)
    plain, few, many = found.values()
    report.bar(
        "p50 of a claim: 10⁴ of one key before 10⁴ plain rows / 10⁴ plain rows",
        _ratio(many.claims, plain.claims),
        1.5,
    )
    report.bar(
        f"p50 of a settlement that unblocks the next of the key: 10⁴ wait / {FEW} wait",
        _ratio(many.settlements, few.settlements),
        1.5,
    )
    least = min(many.jobs + plain.jobs)
    report.bar("jobs of each claim with the key, and without", least, FULL_CLAIM * BATCH, least=True)
    report.bar("jobs of the key in a claim, on average", statistics.mean(many.keyed), 0.9, least=True)
    report.bar("jobs of the key in a claim, most", max(many.keyed), 1)


def _print_limited(report: Report, found: dict[str, Contended], rows: int) -> None:
    _table(report, f"{LANES} lanes", found)
    plain, _, many = found.values()
    report.bar(
        f"p50 of a claim: {rows:,} rows in {LANES} lanes with max_in_progress = 1 / 10⁴ plain rows",
        _ratio(many.claims, plain.claims),
        1.5,
    )
    report.bar(
        "jobs of each claim with limits, and without, least", min(many.jobs + plain.jobs), LANES, least=True
    )
    report.bar("jobs of each claim with limits, and without, most", max(many.jobs + plain.jobs), LANES)


def _table(report: Report, title: str, found: dict[str, Contended]) -> None:
    report.table(
        f"{title}, ms",
        ["claim p50", "p95", "CPU", "jobs", "of the key", "settle p50", "p95"],
        [
            (
                name,
                [
                    ms(statistics.median(contended.claims)),
                    ms(percentile(contended.claims, 95)),
                    ms(contended.cpu),
                    f"{statistics.median(contended.jobs):.0f}",
                    f"{statistics.median(contended.keyed):.0f}",
                    ms(statistics.median(contended.settlements)),
                    ms(percentile(contended.settlements, 95)),
                ],
            )
            for name, contended in found.items()
        ],
    )


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(some) / statistics.median(others)
