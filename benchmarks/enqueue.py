"""Cost of an enqueue for its transaction, compared with an insert of the same row."""

import dataclasses
import random
import statistics
import time
from contextlib import ExitStack

import psycopg

import pgreact
from benchmarks import writers
from benchmarks.processes import Workshop
from benchmarks.report import Report, ms
from pgreact.demo.postgres import EmbeddedPostgres
from tests.servers import redis_server

WRITERS = (1, 16)
MANY = 1000  # jobs of a statement

_CONFIGURATION = """
[queue]

[lanes.bench]
paused = true
"""
# The queue's columns, types, NOT NULL and indexes, without what pgreact adds: defaults, checks, the generated
# column's expression, the trigger.
_PLAIN = """
create table plain (like pgreact.queue including indexes);
alter table plain
    alter state type text,
    alter unique_while type text,
    alter max_attempts type integer,
    alter max_lost type integer,
    alter backoff type interval;
create sequence plain_id;
"""
_STATEMENTS = {
    "plain": (
        "plain",
        """insert into plain (id, state, lane, task, args, kwargs, priority, run_at, unique_while, attempt,
            max_attempts, lost, backoff, options, enqueued_at, task_id, retrying, size)
        values (nextval('plain_id'), 'ready', 'bench', 'proj.tasks.send_email', '[]', '{"user_id": 42}', 0,
            clock_timestamp(), 'queued', 0, 1, 0, '5 s', '{}', clock_timestamp(), gen_random_uuid(),
            false, 19)""",
    ),
    "enqueue": (
        "pgreact.queue",
        """select pgreact.enqueue('proj.tasks.send_email', kwargs => '{"user_id": 42}', lane => 'bench')""",
    ),
}
_NAMES = {"plain": "plain insert", "enqueue": "pgreact.enqueue"}


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    runs: writers.Size
    statements: int  # of enqueue_many


FULL = Size(writers.Size(rounds=8, seconds=3, settling=0.8), statements=60)
QUICK = Size(writers.Size(rounds=1, seconds=1, settling=0.4), statements=5)


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        broker = stack.enter_context(redis_server()).url
        postgres = stack.enter_context(EmbeddedPostgres(settings=writers.SETTINGS))
        (workshop.directory / "pgreact.toml").write_text(_CONFIGURATION)
        workshop.python("-m", "pgreact", "apply", PGREACT_DSN=postgres.dsn())
        with psycopg.connect(postgres.dsn(), autocommit=True) as owner:
            owner.execute(_PLAIN.encode())
        stack.enter_context(writers.daemon(workshop, postgres.dsn(), broker))
        report.note(f"PostgreSQL {postgres.major}, flushes its commits; pgreact listen; the lane is paused")
        bench = writers.Bench(workshop, writers.find_pgbench(), size.runs)
        cells: dict[int, list[dict[str, writers.Run]]] = {count: [] for count in WRITERS}
        for _ in range(size.runs.rounds):
            for count, rounds in cells.items():
                rounds.append(
                    {
                        side: bench.run(postgres.dsn(), count, statement, table, mode="prepared")
                        for side, (table, statement) in random.sample(
                            list(_STATEMENTS.items()), len(_STATEMENTS)
                        )
                    }
                )
        took = _enqueue_many(postgres.dsn(), size.statements)
    _print(report, {count: writers.Cell(rounds) for count, rounds in cells.items()}, took)


def _enqueue_many(dsn: str, statements: int) -> list[float]:
    """Return the seconds of each call of `pgreact.enqueue_many`, its commit included."""
    jobs = [{"task": "proj.tasks.send_email", "kwargs": {"user_id": n}, "lane": "bench"} for n in range(MANY)]
    found = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(statements):
            begin = time.perf_counter()
            pgreact.enqueue_many(connection, jobs)
            found.append(time.perf_counter() - begin)
        connection.execute("truncate pgreact.queue")
    return found


def _print(report: Report, cells: dict[int, writers.Cell], took: list[float]) -> None:
    columns = [f"{count} writers" for count in cells]
    report.table(
        "commits/s, one job each",
        columns,
        [(name, [f"{cell.rate(side):,.0f}" for cell in cells.values()]) for side, name in _NAMES.items()],
    )
    report.table(
        "p99 of a commit, ms",
        columns,
        [(name, [ms(cell.p99(side)) for cell in cells.values()]) for side, name in _NAMES.items()],
    )
    for count, cell in cells.items():
        ratios = sorted(found["enqueue"].rate / found["plain"].rate for found in cell.rounds)
        report.note(
            f"{count} writers: enqueue / plain insert, rounds from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )
    report.bar("16 writers: enqueue / plain insert", cells[16].ratio("enqueue", "plain"), 0.6, least=True)
    rate = MANY / statistics.median(took)
    report.bar(f"jobs a second, {MANY} a statement, from Python", rate, 30_000, least=True)
