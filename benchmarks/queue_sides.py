"""The sides of the comparison: plain Celery, pgreact, Procrastinate, PgQueuer."""

import abc
import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import procrastinate
import psutil
import psycopg
from celery import Celery
from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
from pgqueuer.queries import Queries, SyncQueries

from benchmarks import bare_queue
from benchmarks.marks import DIRECTORY
from benchmarks.processes import Workshop
from pgreact.demo.postgres import EmbeddedPostgres

CONCURRENCY = 4  # of each worker: Celery's processes, the peers' coroutines
MANY = 1000  # jobs of a statement in bulk enqueues

LANE = "celery"  # the lane and Celery queue whose jobs share messages
SINGLE = "single"  # likewise, of jobs each of which has a message of its own
THREADS, SOLO = POOLS = (
    "threads",
    "solo",
)  # Celery's pools without child processes; each has a lane of its name

CONFIGURATION = f"""
[queue]
max_in_progress = 1000

[lanes.{SINGLE}]
bundle = 1

[lanes.{THREADS}]
[lanes.{SOLO}]
"""


class Side(abc.ABC):
    """One side; its processes run already.

    Attributes:
        connection: A session on the side's database.
        processes: The side's processes, by name.
        settles: Whether the end of a task is written to the database.
    """

    settles = True

    def __init__(self, dsn: str, **processes: psutil.Process) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.processes = processes

    @abc.abstractmethod
    def start(self, number: int) -> float:
        """Enqueue the task that reports its start; return the time after the commit, of time.monotonic."""

    @abc.abstractmethod
    def noops(self, count: int) -> None:
        """Enqueue tasks that do nothing."""

    @abc.abstractmethod
    def settled(self) -> bool:
        """Whether all jobs are settled."""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _none(self, statement: str, values: Sequence[object] = ()) -> bool:
        query = f"select not exists ({statement})".encode()
        return self.connection.execute(query, values).fetchone() == (True,)


class Delay(Side):
    """Celery without pgreact: commit, then delay()."""

    settles = False

    def __init__(self, dsn: str, broker: str, queue: str = LANE, **processes: psutil.Process) -> None:
        """Connect.

        Args:
            dsn: A database, for the commits.
            broker: The broker's URL.
            queue: The Celery queue of the tasks.
            **processes: The side's processes, by name.
        """
        super().__init__(dsn, **processes)
        self.connection.execute(
            "create table if not exists business (id bigint generated always as identity)"
        )
        app = Celery("producer", broker=broker)
        app.conf.task_ignore_result = True
        app.conf.task_default_queue = queue
        if broker.startswith("amqp"):
            app.conf.broker_transport_options = {"confirm_publish": True}
        self._start = app.task(name="bench.start", typing=False)(_nothing)
        self._noop = app.task(name="bench.noop", typing=False)(_nothing)

    def start(self, number: int) -> float:
        self.connection.execute("insert into business default values")
        committed = time.monotonic()
        self._start.delay(number)
        return committed

    def noops(self, count: int) -> None:
        for _ in range(count):
            self._noop.delay()

    def settled(self) -> bool:
        return True


class Pgreact(Side):
    """``pgreact.enqueue`` in the transaction."""

    def __init__(self, dsn: str, lane: str | None = None, **processes: psutil.Process) -> None:
        """Connect.

        Args:
            dsn: A database with pgreact's queue.
            lane: Of the jobs; ``None``: that of the task's route, which makes the queue know the task.
            **processes: The side's processes, by name.
        """
        super().__init__(dsn, **processes)
        self.lane = lane

    def start(self, number: int) -> float:
        statement = "select pgreact.enqueue('bench.start', %s, lane => %s)"
        self.connection.execute(statement, (json.dumps([number]), self.lane))
        return time.monotonic()

    def noops(self, count: int) -> None:
        for done in range(0, count, MANY):
            self.enqueue([{"task": "bench.noop"}] * min(MANY, count - done))

    def enqueue(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Enqueue jobs in the lane, unless they name another one, by one statement."""
        lane = {"lane": self.lane} if self.lane else {}
        text = json.dumps([{**lane, **job} for job in jobs])
        self.connection.execute("select pgreact.enqueue_many(%s)", (text,))

    def is_short(self, task: str = "bench.noop") -> bool:
        """Whether the queue has measured that the task is short: before that, its jobs share no messages."""
        short = "select from pgreact.task where name = %s and run_s <= 0.01 and not alone"
        return not self._none(short, (task,))

    def settled(self) -> bool:
        return self._none("select from pgreact.in_progress") and self._none("select from pgreact.queue")


class Bare(Side):
    """The bare side, see :mod:`benchmarks.bare_queue`."""

    def __init__(self, dsn: str, **processes: psutil.Process) -> None:
        super().__init__(dsn, **processes)
        self.connection.execute(bare_queue.SCHEMA.encode())

    def start(self, number: int) -> float:
        self.connection.execute("insert into bare_job (number) values (%s)", (number,))
        return time.monotonic()

    def noops(self, count: int) -> None:
        raise NotImplementedError

    def settled(self) -> bool:
        return True


class Procrastinate(Side):
    """Procrastinate's ``defer``."""

    def __init__(self, dsn: str, **processes: psutil.Process) -> None:
        super().__init__(dsn, **processes)
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
        self._app.open()

    def start(self, number: int) -> float:
        self._app.configure_task("bench.start").defer(number=number)
        return time.monotonic()

    def noops(self, count: int) -> None:
        for done in range(0, count, MANY):
            self._app.configure_task("bench.noop").batch_defer(*[{}] * min(MANY, count - done))

    def settled(self) -> bool:
        return self._none("select from procrastinate_jobs where status in ('todo', 'doing')")

    def close(self) -> None:
        self._app.close()
        super().close()


class PgQueuer(Side):
    """PgQueuer's ``enqueue``."""

    def __init__(self, dsn: str, **processes: psutil.Process) -> None:
        super().__init__(dsn, **processes)
        self._queries = SyncQueries(SyncPsycopgDriver(self.connection))

    def start(self, number: int) -> float:
        self._queries.enqueue("start", str(number).encode())
        return time.monotonic()

    def noops(self, count: int) -> None:
        for done in range(0, count, MANY):
            many = min(MANY, count - done)
            self._queries.enqueue(["noop"] * many, [None] * many, [0] * many)

    def settled(self) -> bool:
        return self._none("select from pgqueuer")


def _nothing() -> None:
    """Stand for the task in the worker."""


# ---- the processes of the sides ----------------------------------------------------------------------------


def install(
    workshop: Workshop, postgres: EmbeddedPostgres, name: str, configuration: str = CONFIGURATION
) -> str:
    """Create a database with pgreact's queue; return its DSN."""
    dsn = _database(postgres, name)
    (workshop.directory / "pgreact.toml").write_text(configuration)
    workshop.python("-m", "pgreact", "apply", PGREACT_DSN=dsn)
    return dsn


@contextmanager
def daemon_and_worker(
    workshop: Workshop,
    dsn: str,
    broker: str,
    marks: Path,
    *,
    lanes: Sequence[str] = (LANE, SINGLE),
    concurrency: int = CONCURRENCY,
) -> Iterator[dict[str, psutil.Process]]:
    """Run `pgreact listen`, and a Celery worker of `benchmarks.queue_app`.

    Args:
        workshop: Runs the processes.
        dsn: A database with pgreact's queue.
        broker: The broker's URL.
        marks: The directory of the tasks' marks.
        lanes: The worker's Celery queues.
        concurrency: The worker's processes.
    """
    with (
        workshop.running("-m", "pgreact", "listen", PGREACT_DSN=dsn, PGREACT_BROKER=broker) as daemon,
        _worker(workshop, dsn, broker, marks, lanes, "-c", str(concurrency)) as worker,
    ):
        yield {"daemon": daemon, "worker": worker}


def _worker(
    workshop: Workshop, dsn: str, broker: str, marks: Path, lanes: Sequence[str], *options: str
) -> AbstractContextManager[psutil.Process]:
    return workshop.running(
        *("-m", "celery", "-A", "benchmarks.queue_app", "worker", "-Q", ",".join(lanes), *options),
        says_ready=False,
        **{"BENCH_DSN": dsn, "BENCH_BROKER": broker, DIRECTORY: str(marks)},
    )


@contextmanager
def celery_sides(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, marks: Path, name: str
) -> Iterator[dict[str, Side]]:
    """Run a daemon, and a worker for both ``delay()`` and jobs, with and without bundles."""
    dsn = install(workshop, postgres, name)
    with ExitStack() as stack:
        processes = stack.enter_context(daemon_and_worker(workshop, dsn, broker, marks))
        sides: dict[str, Side] = {
            "delay": Delay(dsn, broker, worker=processes["worker"]),
            "pgreact": Pgreact(dsn, None, **processes),
            "single": Pgreact(dsn, SINGLE, **processes),
        }
        for side in sides.values():
            stack.callback(side.close)
        yield sides


@contextmanager
def bare_side(workshop: Workshop, dsn: str, broker: str) -> Iterator[dict[str, Side]]:
    """Run the bare side for the worker of `celery_sides`."""
    side = Bare(dsn)
    with (
        contextlib.closing(side),
        workshop.running("-m", "benchmarks.bare_queue", LANE, BENCH_DSN=dsn, BENCH_BROKER=broker),
    ):
        yield {"bare": side}


@contextmanager
def pool_sides(workshop: Workshop, dsn: str, broker: str, marks: Path) -> Iterator[dict[str, Side]]:
    """Run a worker of each of `POOLS` for the database of `celery_sides`, for jobs and for ``delay()``."""
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for pool in POOLS:
            options = ("-P", pool, "-c", str(CONCURRENCY), "-n", f"{pool}@%h")
            worker = stack.enter_context(_worker(workshop, dsn, broker, marks, [pool], *options))
            sides[pool] = Pgreact(dsn, pool, worker=worker)
            sides[f"delay_{pool}"] = Delay(dsn, broker, pool, worker=worker)
            stack.callback(sides[pool].close)
            stack.callback(sides[f"delay_{pool}"].close)
        yield sides


@contextmanager
def peer_sides(workshop: Workshop, postgres: EmbeddedPostgres, marks: Path) -> Iterator[dict[str, Side]]:
    """Run the peers' workers by their own commands, with their own defaults."""
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        dsn = _database(postgres, "procrastinate")
        with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn)).open() as app:
            app.schema_manager.apply_schema()
        worker = stack.enter_context(
            workshop.running(
                *(
                    "-m",
                    "procrastinate",
                    "--log-level",
                    "warning",
                    "--app",
                    "benchmarks.procrastinate_app.app",
                ),
                *("worker", "--concurrency", str(CONCURRENCY)),
                says_ready=False,
                **{"BENCH_DSN": dsn, DIRECTORY: str(marks)},
            )
        )
        sides["procrastinate"] = Procrastinate(dsn, worker=worker)
        stack.callback(sides["procrastinate"].close)
        dsn = _database(postgres, "pgqueuer")
        asyncio.run(_install_pgqueuer(dsn))
        worker = stack.enter_context(
            workshop.running(
                *("-m", "benchmarks.pgqueuer_app"),
                says_ready=False,
                **{"BENCH_DSN": dsn, DIRECTORY: str(marks)},
            )
        )
        sides["pgqueuer"] = PgQueuer(dsn, worker=worker)
        stack.callback(sides["pgqueuer"].close)
        yield sides


async def _install_pgqueuer(dsn: str) -> None:
    connection: Any = await asyncpg.connect(dsn)
    try:
        await Queries(AsyncpgDriver(connection)).install()
    finally:
        await connection.close()


def _database(postgres: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    return postgres.dsn(name)
