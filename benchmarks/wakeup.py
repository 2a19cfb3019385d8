"""Wake-ups: latency from commit to message, coalescing of a burst, cost of an idle minute."""

import bisect
import dataclasses
import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

import psutil
import psycopg

from benchmarks.observer import Observer
from benchmarks.processes import Workshop
from benchmarks.report import Report, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres, find_binaries
from pgreact.errors import PgreactError
from tests.servers import rabbitmq_server, redis_server

WINDOW = 0.1
POLL = 40  # milliseconds, the default of gate_poll
WRITERS = 16
WARM_UP = 10  # commits
STATISTICS_DELAY = 11.0  # seconds until an idle PostgreSQL backend has reported its statistics
SIDES = ("pgreact", "bare")

_CONFIGURATION = """
[routes.dispatch]
task = "tasks.dispatch_next_available"
window = "{window}s"
options = {{ queue = "{queue}" }}
sweep = "{sweep}s"
ready = "select exists (select from public.job_queue)"
tables = [{{ table = "public.job_queue", on = ["insert"] }}]
"""
_TABLE = """
create table job_queue (
    id bigint generated always as identity primary key,
    created timestamptz not null default clock_timestamp()
)
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int
    commits: int  # in each round, for each side
    rows: int
    idle: float  # seconds


FULL = Size(rounds=7, commits=40, rows=100_000, idle=60.0)
QUICK = Size(rounds=3, commits=12, rows=10_000, idle=3.0)


@dataclasses.dataclass(frozen=True)
class Latencies:
    """Seconds from commit to message on one broker."""

    rounds: list[dict[str, list[float]]]
    beat: list[float]

    def p50(self, side: str) -> float:
        """The median of the rounds' medians."""
        return statistics.median(statistics.median(found[side]) for found in self.rounds)

    def p99(self, side: str) -> float:
        """The percentile of all commits."""
        return percentile([seconds for found in self.rounds for seconds in found[side]], 99)

    @property
    def ratios(self) -> list[float]:
        """The rounds' ratios of medians: a disturbance hits both sides of a round."""
        return [
            statistics.median(found["pgreact"]) / statistics.median(found["bare"]) for found in self.rounds
        ]


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        # autovacuum's transactions would count as the daemon's
        postgres = stack.enter_context(EmbeddedPostgres(settings={"autovacuum": "off"}))
        brokers = {
            "RabbitMQ": stack.enter_context(rabbitmq_server()).url,
            "Redis": stack.enter_context(redis_server()).url,
        }
        report.note(f"PostgreSQL {postgres.major}; RabbitMQ with publisher confirms; Redis")
        dsns = {side: routed_database(workshop, postgres, side, window=0, sweep=0) for side in SIDES}
        _print_latencies(
            report, {name: _latencies(workshop, dsns, url, size) for name, url in brokers.items()}
        )
        _polled(report, workshop, postgres, brokers["Redis"], size)
        dsn = routed_database(workshop, postgres, "load", window=WINDOW, sweep=60)
        with leading_daemon(workshop, dsn, brokers["RabbitMQ"]) as daemon:
            _burst(report, dsn, brokers["RabbitMQ"], size)
            idle(report, postgres.dsn(), daemon, size, quick=quick)


def routed_database(
    workshop: Workshop,
    postgres: EmbeddedPostgres,
    name: str,
    *,
    window: float,
    sweep: float,
    queue: str = "pgreact",
) -> str:
    """Create a database with a watched table; one per side, since PostgreSQL wakes all listeners of one.

    Args:
        workshop: For the configuration.
        postgres: The server.
        name: The database's name.
        window: The route's window, in seconds.
        sweep: Seconds between its backstop sweeps.
        queue: The Celery queue of its messages.

    Returns:
        The database's DSN.
    """
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    dsn = postgres.dsn(name)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(_TABLE.encode())
    file = workshop.directory / "pgreact.toml"
    file.write_text(_CONFIGURATION.format(window=window, sweep=sweep, queue=queue))
    workshop.python("-m", "pgreact", "apply", PGREACT_DSN=dsn)
    return dsn


@contextmanager
def leading_daemon(workshop: Workshop, dsn: str, broker: str, *arguments: str) -> Iterator[psutil.Process]:
    """Run `pgreact listen` as leader."""
    with workshop.running(
        "-m", "pgreact", "listen", *arguments, PGREACT_DSN=dsn, PGREACT_BROKER=broker
    ) as process:
        yield process


# ---- commit to message -------------------------------------------------------------------------------------


def _latencies(workshop: Workshop, dsns: Mapping[str, str], broker: str, size: Size) -> Latencies:
    """Commit on the sides in random order; one consumer receives the messages of both.

    Beat runs beside them: any of these commits would have waited for its next message.
    """
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer(broker, [*SIDES, "beat"])))
        writers = {
            side: stack.enter_context(psycopg.connect(dsn, autocommit=True)) for side, dsn in dsns.items()
        }
        for writer in writers.values():
            writer.execute("truncate job_queue")  # leave no work for the sweep at the election
        stack.enter_context(leading_daemon(workshop, dsns["pgreact"], broker))
        stack.enter_context(
            workshop.running("-m", "benchmarks.bare", "bare", BENCH_DSN=dsns["bare"], BENCH_BROKER=broker)
        )
        stack.enter_context(
            workshop.running(
                *("-m", "celery", "-A", "benchmarks.beat", "beat", "-s", str(workshop.directory / "beat")),
                says_ready=False,
                BENCH_BROKER=broker,
            )
        )
        if not observer.watch(20, lambda: bool(observer.seen["beat"])):
            raise PgreactError("Celery Beat does not publish")
        commits: list[float] = []

        def measure(side: str) -> float:
            writers[side].execute("insert into job_queue default values")
            commits.append(time.perf_counter())
            arrived = observer.expect(side, len(observer.seen[side]) + 1)
            observer.watch(random.uniform(0.02, 0.1))
            return arrived - commits[-1]

        for side in SIDES * WARM_UP:
            measure(side)
        commits.clear()
        rounds = []
        for _ in range(size.rounds):
            found: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(size.commits):
                for side in random.sample(SIDES, len(SIDES)):
                    found[side].append(measure(side))
            rounds.append(found)
        observer.watch(2, lambda: observer.seen["beat"][-1] > commits[-1])
    ticks = observer.seen["beat"]
    nexts = [(commit, bisect.bisect_right(ticks, commit)) for commit in commits]
    return Latencies(rounds, [ticks[index] - commit for commit, index in nexts if index < len(ticks)])


def _print_latencies(report: Report, found: Mapping[str, Latencies]) -> None:
    columns = [f"{name} {what}" for name in found for what in ("p50", "p99")]
    report.table(
        "commit → message published, ms",
        columns,
        [
            *(
                (what, [ms(x) for f in found.values() for x in (f.p50(side), f.p99(side))])
                for side, what in zip(
                    SIDES, ("pgreact listen", "bare: asyncpg LISTEN + kombu publish"), strict=True
                )
            ),
            (
                "Celery Beat at 1 s",
                [ms(percentile(f.beat, percent)) for f in found.values() for percent in (50, 99)],
            ),
        ],
    )
    for name, latencies in found.items():
        report.bar_of_rounds(f"{name}: p50 of pgreact / bare pair", latencies.ratios, 1.2)


def _polled(report: Report, workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size) -> None:
    """Measure with a closed gate: writers do not notify, and the daemon polls."""
    dsn = routed_database(workshop, postgres, "polled", window=0, sweep=0)
    waits = []
    with (
        closing(Observer(broker, ["pgreact"])) as observer,
        psycopg.connect(dsn, autocommit=True) as writer,
    ):
        writer.execute("update pgreact.route set gate = 'closed'")
        seen = observer.seen["pgreact"]
        with leading_daemon(workshop, dsn, broker):
            observer.watch(5, lambda: bool(seen))  # the first poll always signals
            for _ in range(size.rounds * size.commits // 2):
                writer.execute("insert into job_queue default values")
                committed = time.perf_counter()
                if not observer.watch(5, lambda since=committed: seen[-1] > since):
                    raise PgreactError("no message for a commit while the gate was closed")
                waits.append(seen[-1] - committed)
                observer.watch(random.uniform(0.05, 0.15))  # a second message may follow
    columns = ["p50", "p99"]
    report.table(
        "gate closed, ms",
        columns,
        [("commit → message published", [ms(percentile(waits, p)) for p in (50, 99)])],
    )
    report.bar("gate closed: p99, poll interval + 20 ms", percentile(waits, 99) * 1000, POLL + 20, " ms")


# ---- burst -------------------------------------------------------------------------------------------------


def _burst(report: Report, dsn: str, broker: str, size: Size) -> None:
    """Commit many single rows by many writers; count the messages."""
    pgbench = find_binaries() / "pgbench"
    if not pgbench.exists():
        raise PgreactError(f"no pgbench beside {pgbench.parent}/postgres; the wheel of pgreact[demo] has one")
    with closing(Observer(broker, ["pgreact"])) as observer:
        seen = observer.seen["pgreact"]
        with subprocess.Popen(
            [pgbench, "-n", "-c", str(WRITERS), "-j", "2", "-t", str(size.rows // WRITERS), "-f", "-", dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as writers:
            assert writers.stdin is not None
            writers.stdin.write(b"insert into job_queue default values;\n")
            writers.stdin.close()
            while writers.poll() is None:
                observer.watch(0.02)  # `ended` is as late
            ended = time.perf_counter()
        # the last commit needs a message; after that, none may come
        answered = observer.watch(5, lambda: seen[-1:] > [ended - WINDOW])
        observer.watch(10 * WINDOW)
        if writers.returncode or not answered:
            raise PgreactError(f"pgbench ended with {writers.returncode}, and {len(seen)} messages came")
    with psycopg.connect(dsn) as reader:
        row = reader.execute(
            "select count(*), extract(epoch from max(created) - min(created))::float8 from job_queue"
        ).fetchone()
    assert row is not None
    rows, duration = row
    report.table(
        f"{rows} rows, {WRITERS} writers, window {WINDOW * 1000:.0f} ms",
        ["commits/s", "seconds", "messages"],
        [("pgreact listen", [f"{rows / duration:.0f}", f"{duration:.1f}", str(len(seen))])],
    )
    report.bar("burst: messages (duration / window + 2)", len(seen), duration // WINDOW + 2)


# ---- idle --------------------------------------------------------------------------------------------------


def idle(report: Report, observer_dsn: str, daemon: psutil.Process, size: Size, *, quick: bool) -> None:
    """Measure an idle leader, from another database so that the reads do not count."""
    with psycopg.connect(observer_dsn, autocommit=True) as reader:

        def transactions() -> int:
            row = reader.execute(
                "select xact_commit + xact_rollback from pg_stat_database where datname = 'load'"
            ).fetchone()
            assert row is not None
            return int(row[0])

        def cpu() -> float:
            times = daemon.cpu_times()
            return times.user + times.system

        time.sleep(1 if quick else STATISTICS_DELAY)
        began, transactions_before, cpu_before = time.perf_counter(), transactions(), cpu()
        time.sleep(size.idle)
        seconds = time.perf_counter() - began
        count, used = transactions() - transactions_before, cpu() - cpu_before
        resident = daemon.memory_info().rss / 1e6
    report.table(
        f"{seconds:.0f} s idle, one leader, defaults",
        ["transactions", "CPU s", "core", "RSS"],
        [
            (
                "pgreact listen",
                [
                    "too short" if quick else str(count),
                    f"{used:.2f}",
                    f"{used / seconds:.2%}",
                    f"{resident:.1f} MB",
                ],
            )
        ],
    )
    if not quick:
        report.bar("idle: transactions in a minute", count * 60 / seconds, 12)
    report.bar("idle: share of a core", used / seconds * 100, 0.3, " %")
    report.bar("idle: RSS", resident, 80, " MB")
