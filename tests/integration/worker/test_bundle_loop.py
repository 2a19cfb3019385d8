"""The loop of a bundle with its real threads: forks, an absent database, leases, the sizes of sub-batches."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgreact.worker.bundle import BundledJob, Pace
from pgreact.worker.bundle_loop import BundleLoop, Item
from pgreact.worker.bundle_settlements import NOBODY, HandedBack
from pgreact.worker.bundle_watch import watch
from pgreact.worker.jobs import Jobs
from pgreact.worker.run import settled
from tests.harness import Database
from tests.jobs_cluster import prepare
from tests.worker import ROOT


@pytest.fixture
def claimed(database: Database) -> Callable[[int], list[BundledJob]]:
    """Return a function that enqueues jobs and claims them."""
    prepare(database)
    database.run("update pgreact.queue_setting set retention = '1 day'", "select pgreact.maintain_history()")

    def claim(count: int) -> list[BundledJob]:
        database.value(
            "select count(pgreact.enqueue('x', lane => 'default')) from generate_series(1, %s)", count
        )
        jobs = sorted(database.value("select pgreact.claim(100) -> 'jobs'"), key=lambda job: job["id"])
        return [
            BundledJob(j["id"], j["claim_id"], j["task_id"], j["attempt"], False, "[]", "{}") for j in jobs
        ]

    return claim


@pytest.fixture
def jobs(database: Database, caplog: pytest.LogCaptureFixture) -> Iterator[Jobs]:
    caplog.set_level(logging.DEBUG, "pgreact.worker")
    found = Jobs(database.dsn)
    yield found
    found.close()


def loop_of(jobs: Jobs, todo: list[BundledJob], size: int = 1) -> BundleLoop:
    pace = Pace()
    pace.size = size
    return BundleLoop(jobs, todo, "w 1", pace, lambda _job: ([], {}))


def trace(body: Callable[[int], Any]) -> Callable[[BundleLoop, Item], None]:
    """Return what runs a body as the tracer and the guard do."""

    def run(loop: BundleLoop, item: Item) -> None:
        loop.start(item.run)
        body(item.run.job)
        loop.end(settled(item.run, "done"))

    return run


def counted(database: Database, table: str) -> int:
    return int(database.value(f"select count(*) from pgreact.{table}"))


def test_sub_batches_grow_to_what_lasts_20_ms(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(60)
    now, begun = 0.0, []

    def body(_job: int) -> None:
        nonlocal now
        now += 1 / 512  # exact in binary
        begun.append(counted(database, "in_progress where started_at is not null"))

    pace = Pace()
    loop = BundleLoop(jobs, todo, "w 1", pace, lambda _job: ([], {}), clock=lambda: now)
    loop.run(trace(body))
    assert begun == [1] + [2] * 2 + [4] * 4 + [8] * 8 + [10] * 40 + [5] * 5
    assert counted(database, "history where outcome = 'done' and settled_at >= started_at") == 60
    pace.ran(1, 5.0)
    assert pace.size == 1
    for _ in range(30):
        pace.ran(pace.size, pace.size * 0.001)
    assert 15 <= pace.size <= 20


def test_times_of_a_job_are_those_of_its_body(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    now = 0.0

    def body(_job: int) -> None:
        nonlocal now
        now += 3.0

    loop = BundleLoop(jobs, claimed(3), "w 1", Pace(), lambda _job: ([], {}), clock=lambda: now)
    loop.run(trace(body))
    with database.connect() as connection:
        rows = connection.execute(
            "select extract(epoch from settled_at - started_at)::float from pgreact.history"
        ).fetchall()
    assert [row[0] for row in rows] == pytest.approx([3.0] * 3)


def test_watch_hands_over_what_waits_behind_a_job(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(6)
    loop = loop_of(jobs, todo, 4)
    ran = []

    def body(job: int) -> None:
        ran.append(job)
        if job == todo[1].id:
            database.until("select count(*) = 4 from pgreact.queue where attempt = 0")
            database.until("select count(*) = 1 from pgreact.history")
            assert jobs.renewer._runs  # its lease is renewed

    watch().add(loop)
    try:
        loop.run(trace(body))
    finally:
        watch().remove(loop)
    assert ran == [todo[0].id, todo[1].id]
    assert counted(database, "history") == 2
    assert counted(database, "in_progress") == 0
    assert not jobs.renewer._runs


def test_process_that_a_body_forks_runs_and_settles_nothing_of_the_bundle(
    claimed: Callable[[int], list[BundledJob]], database: Database
) -> None:
    todo = claimed(4)
    program = """
import os, sys
from pgreact.worker.bundle import BundledJob
from tests.integration.worker.test_bundle_loop import *

jobs = Jobs(os.environ["PROJ_DSN"])
pairs = [pair.split("/") for pair in sys.argv[1:]]
todo = [BundledJob(int(job), claim, "t", 1, False, "[]", "{}") for job, claim in pairs]
children, ran = [], []
def body(job):
    ran.append(job)
    if not children:
        children.append(os.fork())
loop = loop_of(jobs, todo, 4)
watch().add(loop)
loop.run(trace(body))
if not children[0]:
    os._exit(7 if ran == [todo[0].id] else 8)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
assert ran == [job.id for job in todo]
jobs.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *(f"{job.id}/{job.claim}" for job in todo)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROJ_DSN": database.dsn},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert counted(database, "history where outcome = 'done'") == 4


def test_locked_row_of_an_ended_job_is_settled_later_and_the_next_begin(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(3)
    other: list[psycopg.Connection[Any]] = []

    def body(job: int) -> None:
        if job == todo[0].id:
            connection = database.connect(autocommit=False)
            connection.execute("select from pgreact.in_progress where id = %s for update", (job,))
            other.append(connection)

    loop_of(jobs, todo).run(trace(body))
    database.until("select count(*) = 2 from pgreact.history")
    assert counted(database, "in_progress") == 1
    other[0].rollback()
    other[0].close()
    database.until("select count(*) = 3 from pgreact.history where outcome = 'done'")


def test_locked_rows_are_handed_back_once_they_are_free(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(3)
    with database.connect() as other, other.transaction():
        other.execute("select from pgreact.in_progress where id = %s for update", (todo[1].id,))
        jobs.renewer.send_later(HandedBack([(job.id, job.claim) for job in todo], NOBODY))
        database.until("select count(*) = 2 from pgreact.queue")
    database.until("select count(*) = 3 from pgreact.queue where attempt = 0")


def test_jobs_beside_one_that_another_transaction_holds_do_not_start_and_go_back(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(3)
    ran: list[int] = []
    with database.connect() as other, other.transaction():
        other.execute("select from pgreact.in_progress where id = %s for update", (todo[1].id,))
        loop_of(jobs, todo, 3).run(trace(ran.append))
        database.until("select count(*) = 2 from pgreact.queue where attempt = 0")
    assert ran == []
    database.until("select count(*) = 3 from pgreact.queue where attempt = 0")


def test_lease_of_what_ended_is_renewed_until_it_is_settled(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    database.run("update pgreact.queue_setting set lease = '2 s'")
    todo = claimed(2)
    owner = psycopg.conninfo.make_conninfo(database.dsn)

    def body(_job: int) -> None:
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("alter function pgreact.settle_and_start rename to away")

    loop = loop_of(jobs, todo, 2)
    jobs.timeout = 0.1
    done: list[bool] = []

    def run(of: BundleLoop, item: Item) -> None:
        if not done:
            done.append(True)
            body(item.run.job)
        of.start(item.run)
        of.end(settled(item.run, "done"))

    loop.run(run)
    database.until("select min(lease_until) > min(started_at) + interval '3 s' from pgreact.in_progress")
    database.run("alter function pgreact.away rename to settle_and_start")
    database.until("select count(*) = 2 from pgreact.history where outcome = 'done'")
    assert counted(database, "in_progress") == 0


def test_runs_of_one_message_in_several_threads_run_no_job_twice_or_at_the_same_time(
    claimed: Callable[[int], list[BundledJob]], jobs: Jobs, database: Database
) -> None:
    todo = claimed(40)
    ran: list[int] = []
    running = threading.Lock()

    def run(job: int) -> None:
        assert running.acquire(blocking=False), "two jobs of a bundle run, in one place of their lane"
        ran.append(job)
        running.release()

    threads = [
        threading.Thread(target=loop_of(jobs, todo, size).run, args=(trace(run),))
        for size in (1, 2, 3, 5)  # the same jobs: duplicates in a pool of threads, under one worker's name
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran
    assert len(set(ran)) == len(ran)
    database.until("select count(*) = 0 from pgreact.in_progress")
    done, left = (
        counted(database, "history where outcome = 'done'"),
        counted(database, "queue where attempt = 0"),
    )
    assert (done, left) == (len(ran), len(todo) - len(ran))
