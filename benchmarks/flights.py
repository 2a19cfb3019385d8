"""``single_flight = "run"`` under load: a task of 200 ms, 1000 signals a second, no overlapping runs."""

import itertools
import os
import statistics
import threading
import time

import psycopg

from benchmarks.processes import ROOT, Workshop
from benchmarks.report import Report, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from tests.servers import redis_server

SIGNALS = 1000  # a second
TASK = 0.2  # seconds
FULL, QUICK = 20.0, 4.0  # seconds of signals

_CONFIGURATION = """
[routes.dispatch]
task = "flights.dispatch"
single_flight = "run"
window = "10ms"
sweep = 0
options = { queue = "flights" }
tables = [{ table = "public.job_queue", on = ["insert"] }]
"""
_APP = f"""
import os, time
import psycopg
from celery import Celery
import pgreact

app = Celery("flights", broker=os.environ["BENCH_BROKER"])
app.conf.worker_prefetch_multiplier = 1
pgreact.setup(app, dsn=os.environ["PGREACT_DSN"])

@app.task(name="flights.dispatch")
def dispatch():
    with psycopg.connect(os.environ["PGREACT_DSN"], autocommit=True) as connection:
        run = connection.execute("insert into run default values returning id").fetchone()[0]
        time.sleep({TASK})
        connection.execute("update run set ended_at = clock_timestamp() where id = %s", (run,))
"""
_TABLES = """
create table job_queue (id bigint generated always as identity);
create table run (
    id bigint generated always as identity,
    began_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);
"""


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    seconds = QUICK if quick else FULL
    with (
        Workshop() as workshop,
        EmbeddedPostgres(settings={"track_commit_timestamp": "on"}) as postgres,
        redis_server() as broker,
    ):
        dsn = postgres.dsn()
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(_TABLES.encode())
        (workshop.directory / "pgreact.toml").write_text(_CONFIGURATION)
        (workshop.directory / "flights.py").write_text(_APP)
        workshop.python("-m", "pgreact", "apply", PGREACT_DSN=dsn)
        environment = {"PGREACT_DSN": dsn, "BENCH_BROKER": broker.url, "PGREACT_BROKER": broker.url}
        environment["PYTHONPATH"] = os.pathsep.join([str(workshop.directory), str(ROOT)])
        worker = ("-m", "celery", "-A", "flights", "worker", "-Q", "flights", "-c", "4")
        with (
            workshop.running(*worker, says_ready=False, **environment),
            workshop.running("-m", "pgreact", "listen", **environment),
        ):
            _until(
                dsn, "select exists (select from run where ended_at is not null)"
            )  # the run after the first sweep
            stop = threading.Event()
            waiting: list[int] = []
            watcher = threading.Thread(target=_watch, args=(dsn, stop, waiting))
            watcher.start()
            sent = _signal(dsn, seconds)
            _until(
                dsn,
                "select exists (select from run where ended_at is not null and began_at > "
                "(select max(pg_xact_commit_timestamp(xmin)) from job_queue))",
            )
            stop.set()
            watcher.join()
        _print(report, dsn, sent, seconds, max(waiting, default=0))


def _signal(dsn: str, seconds: float) -> int:
    """Commit `SIGNALS` rows a second, one each; return their number."""
    began = time.monotonic()
    sent = 0
    with psycopg.connect(dsn, autocommit=True) as writer:
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * SIGNALS:
                writer.execute("insert into job_queue default values")
                sent += 1
            time.sleep(0.001)
    return sent


def _watch(dsn: str, stop: threading.Event, waiting: list[int]) -> None:
    """Sample the number of workers that hold NEXT, until `stop`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not stop.wait(0.005):
            row = connection.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and granted "
                "and classid::bigint = pgreact.lock_class('next')"
            ).fetchone()
            waiting.append(row[0] if row else 0)


def _until(dsn: str, condition: str, deadline: float = 30) -> None:
    end = time.monotonic() + deadline
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not (connection.execute(condition.encode()).fetchone() or [False])[0]:
            if time.monotonic() > end:
                raise PgreactError(f"not in {deadline:g} s: {condition}")
            time.sleep(0.01)


def _print(report: Report, dsn: str, sent: int, seconds: float, waiting: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        runs = connection.execute(
            "select extract(epoch from began_at)::float8, extract(epoch from ended_at)::float8 "
            "from run order by 1"
        ).fetchall()
        commits = [
            at
            for (at,) in connection.execute(
                "select extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from job_queue order by 1"
            )
        ]
    overlaps = sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(runs))
    begins = [began for began, _ in runs]
    waits = []
    index = 0
    for commit in commits:
        while index < len(begins) and begins[index] < commit:
            index += 1
        waits.append(begins[index] - commit if index < len(begins) else float("inf"))
    report.table(
        "flights",
        ["runs", "overlaps", "waiting", "p50 ms", "p99 ms", "last ms"],
        [
            (
                f"{sent} signals in {seconds:g} s",
                [
                    str(len(runs)),
                    str(overlaps),
                    str(waiting),
                    ms(statistics.median(waits)),
                    ms(percentile(waits, 99)),
                    ms(waits[-1]),
                ],
            )
        ],
    )
    report.note(f"p50, p99, last: commit until a run began after it; a run takes {TASK * 1000:g} ms")
    report.bar("flights: overlapping runs", overlaps, 0)
    report.bar("flights: waiting at once", waiting, 1)
    report.bar("flights: signals that no run followed", sum(wait == float("inf") for wait in waits), 0)
