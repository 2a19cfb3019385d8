"""Jobs while workers, brokers and PostgreSQL die: no job is lost, none runs twice at the same time."""

import signal
from collections.abc import Iterator

import psutil
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.harness import Database, Inbox, eventually
from tests.jobs_cluster import Cluster, prepare


@pytest.fixture
def cluster(database: Database, inbox: Inbox) -> Iterator[Cluster]:
    """A lease of one second, and no worker yet."""
    prepare(database)
    found = Cluster(database, inbox.url, inbox.queue)
    found.lease("1 s")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def other_postgres() -> Iterator[EmbeddedPostgres]:
    """A server that the tests stop and start."""
    with servers.Postgres(bindir=servers.postgres_binaries()) as server:
        yield server


@pytest.fixture
def stoppable(other_postgres: EmbeddedPostgres, database: Database, inbox: Inbox) -> Iterator[Cluster]:
    """A queue on that server; runs are recorded on another."""
    Database(other_postgres.dsn()).run(f"create database {inbox.queue}")
    queue = Database(other_postgres.dsn(dbname=inbox.queue))
    prepare(queue)
    found = Cluster(queue, inbox.url, inbox.queue, runs=database)
    yield found
    found.stop()


def test_killed_worker_loses_no_job(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    jobs = [cluster.enqueue("plain") for _ in range(3)]
    cluster.dispatch()
    cluster.until_running(count=2)
    cluster.kill_worker()
    cluster.start()
    cluster.open_gate()

    def all_done() -> bool:
        cluster.dispatch()
        return all(cluster.attempts(job)[-1:] == ["done"] for job in jobs)

    eventually(all_done, "all are done")
    # the third had not started, wherever its message was
    assert sorted(cluster.attempts(job) for job in jobs) == [["done"], ["lost", "done"], ["lost", "done"]]
    assert len(cluster.runs()) == 5


def test_a_broker_that_redelivers_at_once_is_not_faster_than_the_lease(database: Database) -> None:
    servers.require_or_skip("rabbitmq")
    prepare(database)
    with servers.rabbitmq_server() as rabbitmq:
        cluster = Cluster(database, rabbitmq.url, "late")
        cluster.lease("2 s")
        try:
            cluster.start(TASK_LATE="1")
            cluster.close_gate()
            job, task_id = cluster.run("plain", sql="max_attempts => 2")
            cluster.until_running()
            cluster.kill_worker()
            cluster.start(TASK_LATE="1").wait_for_log(f"message.dropped: job {job}, task {task_id}")
            cluster.open_gate()
            cluster.until_settled(job, "lost", "done", dispatching=True)
            assert len(cluster.runs()) == 2
        finally:
            cluster.stop()


def test_settlement_of_a_frozen_child_comes_too_late(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    job, task_id = cluster.run("plain", sql="max_attempts => 2")
    child = psutil.Process(cluster.until_running())
    child.suspend()
    cluster.until_settled(job, "lost", dispatching=True)
    assert "did not renew the lease" in cluster.error(job)
    cluster.dispatch()
    cluster.until_running(count=2)
    cluster.open_gate()
    cluster.until_settled(job, "lost", "done")
    child.resume()
    cluster.workers[0].wait_for_log(f"settlement.ignored: job {job}, task {task_id}: done")
    assert cluster.attempts(job) == ["lost", "done"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_settlement_is_sent_when_postgresql_is_back(
    stoppable: Cluster, other_postgres: EmbeddedPostgres, pool: str
) -> None:
    worker = stoppable.start(pool)
    stoppable.close_gate()
    failing, _ = stoppable.run("failing")
    done, task_id = stoppable.run("plain")
    stoppable.until_running(count=2)
    other_postgres.stop()
    stoppable.open_gate()
    worker.wait_for_log(f"settlement.delayed: job {done}, task {task_id}: done: is sent as soon as possible")
    worker.wait_for_log(f"settlement.delayed: job {failing}")
    other_postgres.start()
    stoppable.until_settled(done, "done")
    stoppable.until_settled(failing, "failed")
    assert stoppable.error(failing).startswith("RuntimeError: as told")


def test_a_restart_between_start_and_end_goes_unnoticed(
    stoppable: Cluster, other_postgres: EmbeddedPostgres
) -> None:
    worker = stoppable.start()
    stoppable.lease("2 s")
    stoppable.close_gate()
    job, _ = stoppable.run("plain")
    stoppable.until_running()
    other_postgres.stop()
    other_postgres.start()
    stoppable.database.until("select lease_until > started_at + interval '3 s' from pgreact.in_progress")
    stoppable.open_gate()
    stoppable.until_settled(job, "done")
    assert not [line for line in worker.lines if "settlement.delayed" in line]


def test_stopping_worker_sends_delayed_settlements(
    stoppable: Cluster, other_postgres: EmbeddedPostgres
) -> None:
    worker = stoppable.start()
    stoppable.close_gate()
    job, _ = stoppable.run("plain")
    stoppable.until_running()
    other_postgres.stop()
    stoppable.open_gate()
    worker.wait_for_log("settlement.delayed")
    worker.process.terminate()
    worker.wait_for_log("shutdown.delayed: this process ends when 1 settlements are sent, or in 5s")
    other_postgres.start()
    stoppable.until_settled(job, "done")
    assert worker.process.wait(20) == 0


def test_settlement_of_a_dead_child_is_sent_when_postgresql_is_back(
    stoppable: Cluster, other_postgres: EmbeddedPostgres
) -> None:
    worker = stoppable.start()
    stoppable.close_gate()
    job, _ = stoppable.run("plain")
    pid = stoppable.until_running()
    other_postgres.stop()
    psutil.Process(pid).kill()
    worker.wait_for_log(f"settlement.delayed: job {job}")
    other_postgres.start()
    stoppable.until_settled(job, "lost")


def test_a_message_waits_for_a_restart_of_postgresql(
    stoppable: Cluster, other_postgres: EmbeddedPostgres
) -> None:
    stoppable.start()
    stoppable.run("plain", "first")
    stoppable.until_running()
    stoppable.database.until("select not exists (select from pgreact.in_progress)")
    job = stoppable.enqueue("plain", "second")
    claimed = stoppable.claim()
    other_postgres.stop()
    stoppable.post(claimed)
    stoppable.workers[0].wait_for_log(f"plain[{claimed[0]['task_id']}] received")
    other_postgres.start()
    stoppable.until_settled(job, "done")


def test_message_that_cannot_be_started_runs_nothing_and_is_published_again(
    stoppable: Cluster, other_postgres: EmbeddedPostgres
) -> None:
    worker = stoppable.start()
    stoppable.lease("1 s")
    job = stoppable.enqueue("plain")
    claimed = stoppable.claim()
    other_postgres.stop()
    stoppable.post(claimed)
    worker.wait_for_log(f"job.start_failed: job {job}, task {claimed[0]['task_id']}: cannot be started")
    assert not [line for line in worker.lines if "Traceback" in line]
    assert stoppable.runs() == []
    other_postgres.start()
    stoppable.until_settled(job, "done", dispatching=True)
    assert stoppable.runs("task_id") == [claimed[0]["task_id"]]


def test_a_cold_stop_gives_its_jobs_back(cluster: Cluster) -> None:
    cluster.lease("60 s")
    worker = cluster.start()
    cluster.close_gate()
    job, _ = cluster.run("again", sql="max_attempts => 2")
    cluster.until_running()
    worker.process.send_signal(signal.SIGQUIT)
    cluster.until_settled(job, "lost")
    worker.process.wait(20)
