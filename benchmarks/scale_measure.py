"""The constants of ``benchmarks.scale``, measured on this machine: CPU time of each part of pgreact.

Jobs run as in the bench ``queue``. CPU time depends little on the number of cores; jobs a second do.
"""

import dataclasses
import json
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psutil
import psycopg
import redis

from benchmarks import queue_rate
from benchmarks.marks import Marks
from benchmarks.processes import Workshop
from benchmarks.queue_sides import Delay, Side, celery_sides, install
from benchmarks.report import Report, median_and_spread
from benchmarks.wakeup import leading_daemon
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from tests.servers import redis_server

DEADLINE = 60.0
ROUTES = 50  # signalled all the time
CLAIMS = 200  # of one job; of a hundred, a fifth of it
RESERVE = 15_000  # jobs that wait for each second in which the leader is measured
IN_PROGRESS = 10_000  # jobs, for the part of a claim that counts them
_ROUTE = """
[routes.r{0}]
task = "bench.dispatch"
window = "100ms"
options = {{ queue = "dispatches" }}
tables = [{{ table = "public.work", on = ["insert"] }}]
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int
    jobs: int  # in each round, each with a message of its own
    bundled: int  # likewise, jobs that share messages
    seconds: float  # of dispatches
    schedules: int


FULL = Size(rounds=3, jobs=2500, bundled=20_000, seconds=10, schedules=20_000)
QUICK = Size(rounds=1, jobs=500, bundled=3000, seconds=2, schedules=2000)


@dataclasses.dataclass(frozen=True)
class Jobs:
    """One kind of jobs on this machine: CPU seconds of a job, by part, and what else the model needs.

    Attributes:
        rate: Jobs a second; all parts share the machine's cores.
        message: Jobs of a message.
        cpu: CPU seconds of a job, by part. ``claims`` is the leader's session for claims.
    """

    rate: float
    message: float
    cpu: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured, in seconds.

    Attributes:
        jobs: By kind: ``delay`` (plain Celery), ``single`` and ``pgreact`` (with bundles).
        claim: Of a claim of one job, with nothing in progress: PostgreSQL's CPU time.
        claim_job: Of each further job that it takes.
        claim_in_progress: Of each job that is in progress already.
        dispatch: Of a dispatch of a plain route: CPU time of the daemon, and of PostgreSQL.
        dispatches: Dispatches a second, while all routes are signalled all the time.
        firing: Of a schedule that is due: CPU time of the daemon, and of the session that fires.
        firings: Schedules a second, of many that are due at once.
        ceilings: Jobs a second that the leader claims and publishes, where jobs end as soon as it has:
            alone in their messages, and in bundles.
        memory: Of the daemon after the jobs, in bytes.
    """

    jobs: Mapping[str, Jobs]
    claim: float
    claim_job: float
    claim_in_progress: float
    dispatch: tuple[float, float]
    dispatches: float
    firing: tuple[float, float]
    firings: float
    ceilings: tuple[float, float]
    memory: int


def measure(*, quick: bool) -> Measured:
    """Measure for about a minute and a half; ``quick``: for some seconds, as a test of the bench."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(EmbeddedPostgres(settings={"shared_buffers": "128MB"}))
        broker = stack.enter_context(redis_server()).url
        jobs, memory = _jobs(workshop, postgres, broker, size)
        claim, claim_job, claim_in_progress = _claims(workshop, postgres)
        dispatch, dispatches = _dispatches(workshop, postgres, broker, size)
        firing, firings = _firings(workshop, postgres, broker, size)
        ceilings = (
            _ceiling(workshop, postgres, broker, size, bundle=1),
            _ceiling(workshop, postgres, broker, size, bundle=100),
        )
    return Measured(
        jobs, claim, claim_job, claim_in_progress, dispatch, dispatches, firing, firings, ceilings, memory
    )


# ---- jobs --------------------------------------------------------------------------------------------------


def _jobs(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size
) -> tuple[dict[str, Jobs], int]:
    place = workshop.directory / "marks-scale"
    found: dict[str, list[Jobs]] = {}
    with (
        Marks(place) as marks,
        celery_sides(workshop, postgres, broker, place, "scale_jobs") as sides,
        closing(redis.Redis.from_url(broker)) as server,
    ):
        queue_rate.warm_up(sides, marks, broker)
        for _ in range(size.rounds):
            for name, side in sides.items():
                count = size.bundled if name == "pgreact" else size.jobs
                before, sent = _cpu_by_part(side), _sent(server)
                run = queue_rate.run_noops(side, marks, broker, count)
                after = _cpu_by_part(side)
                cpu = {part: (after[part] - before[part]) / count for part in after}
                cpu |= {part: run.cpu[part] / count for part in ("broker", "producer")}
                found.setdefault(name, []).append(Jobs(run.rate, count / (_sent(server) - sent), cpu))
        memory = sides["single"].processes["daemon"].memory_info().rss
    return {name: _median(rounds) for name, rounds in found.items()}, memory


def _median(rounds: list[Jobs]) -> Jobs:
    return Jobs(
        median_and_spread([one.rate for one in rounds])[0],
        median_and_spread([one.message for one in rounds])[0],
        {part: statistics.median(one.cpu[part] for one in rounds) for part in rounds[0].cpu},
    )


def _cpu_by_part(side: Side) -> dict[str, float]:
    """Return the CPU seconds of the parts so far; PostgreSQL's without those of the session for claims."""
    worker = side.processes["worker"]
    main = _used(worker)
    postmaster = psutil.Process(side.connection.info.backend_pid).parent()
    assert postmaster is not None
    postgres = queue_rate.cpu_seconds(postmaster, family=True)
    claims = 0.0
    found = {"worker main": main, "worker": queue_rate.cpu_seconds(worker, family=True) - main}
    if not isinstance(side, Delay):
        found["daemon"] = queue_rate.cpu_seconds(side.processes["daemon"], family=True)
        claims = _used(_backend(side.connection, "claims"))
    return {**found, "claims": claims, "PostgreSQL": postgres - claims}


def _sent(server: "redis.Redis") -> int:
    """Return how many messages the broker got so far."""
    return int(server.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])


# ---- claims ------------------------------------------------------------------------------------------------


def _claims(workshop: Workshop, postgres: EmbeddedPostgres) -> tuple[float, float, float]:
    dsn = install(workshop, postgres, "scale_claims", "[queue]\n[lanes.bench]\nmax_unstarted = 1000000\n")
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        process = psutil.Process(connection.info.backend_pid)

        def claims(batch: int) -> float:
            """Return the CPU seconds of a claim, of many of the size."""
            count = CLAIMS if batch == 1 else CLAIMS // 5
            _enqueue(other, batch * count)
            began = _used(process)
            for _ in range(count):
                connection.execute("select pgreact.claim(%s)", (batch,))
            return (_used(process) - began) / count

        def settle() -> None:
            other.execute("select pgreact.settle(p.id, p.claim_id, 'done') from pgreact.in_progress p")
            other.execute("vacuum analyze pgreact.queue, pgreact.in_progress")

        claims(1)
        settle()
        one = claims(1)
        settle()
        full = claims(100)
        settle()
        _enqueue(other, IN_PROGRESS)
        for _ in range(IN_PROGRESS // 1000):
            other.execute("select pgreact.claim(1000)")
        beside = claims(1)
    # while the full claims went on, half of them were in progress on average
    each = (beside - one) / IN_PROGRESS
    return one, (full - one - each * 100 * CLAIMS // 5 / 2) / 99, each


def _enqueue(connection: "psycopg.Connection[Any]", count: int) -> None:
    text = json.dumps([{"task": "bench.noop", "lane": "bench"}] * count)
    connection.execute("select pgreact.enqueue_many(%s)", (text,))


# ---- dispatches of plain routes ----------------------------------------------------------------------------


def _dispatches(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size
) -> tuple[tuple[float, float], float]:
    with _database(postgres, "scale_routes") as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table work (id bigint)")
        text = "".join(_ROUTE.format(number) for number in range(ROUTES))
        (workshop.directory / "pgreact.toml").write_text(text)
        workshop.python("-m", "pgreact", "apply", PGREACT_DSN=dsn)
        with (
            leading_daemon(workshop, dsn, broker) as daemon,
            closing(redis.Redis.from_url(broker)) as server,
        ):
            _signal(connection, 1)
            before, sent = _daemon_and_sessions(daemon, connection), _sent(server)
            began = time.monotonic()
            _signal(connection, size.seconds)
            after, seconds = _daemon_and_sessions(daemon, connection), time.monotonic() - began
            count = _sent(server) - sent
    return ((after[0] - before[0]) / count, (after[1] - before[1]) / count), count / seconds


def _signal(connection: "psycopg.Connection[Any]", seconds: float) -> None:
    """Commit a row, which signals all routes, each 20 ms."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.execute("insert into work values (1)")
        time.sleep(0.02)


def _daemon_and_sessions(
    daemon: psutil.Process, connection: "psycopg.Connection[Any]"
) -> tuple[float, float]:
    rows = connection.execute(
        "select pid from pg_stat_activity "
        "where datname = current_database() and application_name like 'pgreact %'"
    ).fetchall()
    return _used(daemon), sum(_used(psutil.Process(int(str(pid)))) for (pid,) in rows)


# ---- schedules ---------------------------------------------------------------------------------------------


def _firings(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size
) -> tuple[tuple[float, float], float]:
    dsn = install(workshop, postgres, "scale_schedules", "[queue]\n[lanes.held]\npaused = true\n")
    with psycopg.connect(dsn, autocommit=True) as connection, leading_daemon(workshop, dsn, broker) as daemon:
        connection.execute(
            "insert into pgreact.schedule (name, task, every, lane) "
            "select 'schedule ' || n, 'bench.noop', '1 h', 'held' from generate_series(1, %s) n",
            (size.schedules,),
        )
        _until(connection, "select not exists (select from pgreact.schedule where state = 'new')")
        connection.execute("vacuum analyze pgreact.schedule")
        session = _backend(connection, "timetable")
        before = _used(daemon), _used(session)
        connection.execute("update pgreact.schedule set next_run_at = now()")
        began = time.monotonic()
        _until(connection, "select last_value >= %s from pgreact.queue_id_seq", size.schedules)
        _until(connection, "select count(*) >= %s from pgreact.queue", size.schedules)
        seconds = time.monotonic() - began
        after = _used(daemon), _used(session)
    each = (after[0] - before[0]) / size.schedules, (after[1] - before[1]) / size.schedules
    return each, size.schedules / seconds


# ---- the leader, with workers that are never busy ----------------------------------------------------------


def _ceiling(workshop: Workshop, postgres: EmbeddedPostgres, broker: str, size: Size, bundle: int) -> float:
    """Return how many jobs a second are claimed and published, while a session ends them at once."""
    dsn = install(
        workshop, postgres, f"scale_ceiling_{bundle}", f"[queue]\n[lanes.bench]\nbundle = {bundle}\n"
    )
    stop = threading.Event()

    def end_jobs() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select set_config('pgreact.muted', 'on', false)")
            while not stop.is_set():
                connection.execute("delete from pgreact.in_progress where published_at is not null")
                time.sleep(0.005)

    with psycopg.connect(dsn, autocommit=True) as connection, leading_daemon(workshop, dsn, broker):
        # short jobs, which may share messages
        connection.execute(
            "insert into pgreact.task (name, queue, run_s) values ('bench.noop', 'bench', 0) "
            "on conflict (name) do update set run_s = 0"
        )
        for _ in range(int(size.seconds) + 1):
            _enqueue(connection, RESERVE)
        thread = threading.Thread(target=end_jobs)
        thread.start()
        try:
            _until(connection, "select count(*) < %s from pgreact.queue", int(RESERVE * (size.seconds + 0.8)))
            before, began = _waiting(connection), time.monotonic()
            time.sleep(size.seconds)
            return (before - _waiting(connection)) / (time.monotonic() - began)
        finally:
            stop.set()
            thread.join()


def _waiting(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute("select count(*) from pgreact.queue").fetchone()
    assert row is not None
    return int(row[0])


# ---- helpers -----------------------------------------------------------------------------------------------


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _backend(connection: "psycopg.Connection[Any]", role: str) -> psutil.Process:
    """Return the server process of a session of the leader."""
    row = connection.execute(
        "select pid from pg_stat_activity where datname = current_database() and application_name like %s",
        (f"pgreact {role} %",),
    ).fetchone()
    assert row is not None
    return psutil.Process(int(str(row[0])))


def _until(connection: "psycopg.Connection[Any]", question: str, *values: object) -> None:
    end = time.monotonic() + DEADLINE
    while connection.execute(question.encode(), values).fetchone() != (True,):
        if time.monotonic() > end:
            raise PgreactError(f"not in {DEADLINE:g} s: {question}")
        time.sleep(0.01)


@contextmanager
def _database(postgres: EmbeddedPostgres, name: str) -> Iterator[str]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    yield postgres.dsn(name)


# ---- the output --------------------------------------------------------------------------------------------


def print_all(report: Report, measured: Measured) -> None:
    """Print what was measured, in microseconds: the constants of ``benchmarks.scale``."""
    parts = sorted({part for kind in measured.jobs.values() for part in kind.cpu})
    names = {"delay": "plain Celery", "single": "alone", "pgreact": "in bundles"}
    report.table(
        "measured: CPU µs a job",
        [names[kind] for kind in measured.jobs],
        [(part, [_us(kind.cpu.get(part, 0.0)) for kind in measured.jobs.values()]) for part in parts]
        + [
            ("jobs of a message", [f"{kind.message:.1f}" for kind in measured.jobs.values()]),
            ("jobs/s", [f"{kind.rate:,.0f}" for kind in measured.jobs.values()]),
        ],
    )
    report.table(
        "measured: CPU µs",
        ["daemon", "PostgreSQL", "a second"],
        [
            ("a claim", ["", _us(measured.claim), ""]),
            ("a claim, each job that it takes", ["", _us(measured.claim_job), ""]),
            ("a claim, each job in progress", ["", _us(measured.claim_in_progress), ""]),
            ("a dispatch of a route", [*map(_us, measured.dispatch), f"{measured.dispatches:,.0f}"]),
            ("a schedule that fires", [*map(_us, measured.firing), f"{measured.firings:,.0f}"]),
            ("a job alone that ends at once", ["", "", f"{measured.ceilings[0]:,.0f}"]),
            ("a job of a bundle that ends at once", ["", "", f"{measured.ceilings[1]:,.0f}"]),
        ],
    )
    report.note(f"memory of the daemon: {measured.memory / 1e6:.0f} MB")


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.3g}"
