"""The worker that accepts a job's message, the database it serves, and the id of a job's task."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection, Queue

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import Inbox, eventually, fresh_database
from tests.jobs_cluster import Cluster, a_cluster, prepare
from tests.worker import ROOT


@pytest.fixture
def cluster(postgres: EmbeddedPostgres, redis_url: str) -> Iterator[Cluster]:
    """A database and a queue, and no worker yet."""
    with fresh_database(postgres) as database:
        prepare(database)
        found = Cluster(database, redis_url, f"q_{uuid4().hex[:12]}")
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres, redis_url: str) -> Iterator[Cluster]:
    """A worker that keeps results."""
    with a_cluster(postgres, redis_url, "threads") as found:
        yield found


def test_a_worker_without_setup_runs_nothing(cluster: Cluster) -> None:
    worker = cluster.start("solo", TASK_BARE="1")
    job = cluster.enqueue("plain")
    cluster.dispatch()
    worker.wait_for_log("Received unregistered task of type 'pgreact.job'")
    assert cluster.runs() == []
    assert cluster.database.value("select id from pgreact.in_progress where started_at is null") == job
    assert cluster.send("plain")
    cluster.until_running()  # it runs messages of its own


def test_replacing_task_is_accepted_only_by_workers_with_setup(running: Cluster, redis_url: str) -> None:
    other = Inbox(redis_url, f"q_{uuid4().hex[:12]}")
    job, task_id = running.run("moving", other.queue)
    headers = other.raw()
    assert (headers["task"], headers["shadow"], headers["id"]) == (
        "pgreact.job",
        "tests.jobs_app.plain",
        task_id,
    )
    running.consume(other.queue)
    running.until_settled(job, "done")
    other.close()


def test_job_of_the_task_pgreact_job_is_invalid(running: Cluster) -> None:
    job, _ = running.run("pgreact.job")
    running.until_settled(job, "invalid")
    assert "pgreact.job" in running.error(job)


def test_logs_and_events_name_the_task(running: Cluster) -> None:
    job, task_id = running.run("plain")
    running.until_settled(job, "done")
    running.workers[0].wait_for_log(f"Task tests.jobs_app.plain[{task_id}] received")
    running.workers[0].wait_for_log(f"Task tests.jobs_app.plain[{task_id}] succeeded")


def test_a_message_of_another_database_goes_to_its_own_worker(
    cluster: Cluster, postgres: EmbeddedPostgres
) -> None:
    with fresh_database(postgres) as other:
        prepare(other)
        astray = cluster.start("solo", PGREACT_DSN=other.dsn)
        names = [each.value("select pgreact.database_id()") for each in (cluster.database, other)]
        job = cluster.enqueue("plain")
        cluster.dispatch(headers={"pgreact_database": names[0]})
        astray.wait_for_log(f"it comes from database {names[0]}, and this worker serves {names[1]}")
        assert cluster.runs() == []
        cluster.start("solo")
        cluster.until_settled(job, "done")
        assert cluster.runs() == ["plain"]
        assert sum("message.misrouted" in line for line in astray.lines) == 1


def test_worker_logs_its_database(cluster: Cluster) -> None:
    line = cluster.start("solo").wait_for_log("runs jobs of ")
    assert "dbname=t_" in line
    assert "password" not in line


def test_worker_without_a_database_does_not_start(tmp_path: Path, redis_url: str) -> None:
    def end(**environ: str) -> "subprocess.CompletedProcess[str]":
        known = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tests.jobs_app", "worker", "-P", "solo"],
            env={**known, "PYTHONPATH": str(ROOT), "TASK_BROKER": redis_url, "C_FORCE_ROOT": "1", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    ended = end()
    assert (ended.returncode, "no database is configured for this worker" in ended.stderr) == (2, True)
    assert "Traceback" not in ended.stderr
    ended = end(PGREACT_DSN="not a dsn")
    assert (ended.returncode, ended.stderr.count("pgreact: ")) == (2, 1)
    assert "Traceback" not in ended.stderr
    (tmp_path / "pgreact.toml").write_text("dsn = 5\n")
    ended = end()
    assert (ended.returncode, "pgreact.toml: dsn: " in ended.stderr) == (2, True)


# ---- the task's id -----------------------------------------------------------------------------------------


def test_a_task_keeps_its_id_from_the_enqueue_on(running: Cluster) -> None:
    app = Celery("reader", backend=running.broker, set_as_current=False)
    given = str(uuid4())
    with running.database.connect() as connection:
        enqueued = pgreact.enqueue(
            connection, "tests.jobs_app.failing", lane="default", max_attempts=2, backoff=0, task_id=given
        )
        assert enqueued.task_id == given
        assert (copied := pickle.loads(pickle.dumps(enqueued))) == enqueued  # noqa: S301
        assert copied.task_id == given
        result: AsyncResult[Any] = AsyncResult(given, app=app)
        assert result.state == "PENDING"
        running.dispatch()
        running.until_settled(enqueued, "failed")
        eventually(lambda: result.state == "RETRY", "another attempt follows")
        running.dispatch()
        running.until_settled(enqueued, "failed", "failed")
        eventually(lambda: result.state == "FAILURE", "its result")
        found = connection.execute(
            "select distinct task_id::text from pgreact.history where id = %(job)s "
            "union all select task_id::text from pgreact.dead where id = %(job)s",
            {"job": enqueued},
        ).fetchall()
        assert {row[0] for row in found} == {given}
        connection.execute("select pgreact.retry(%s)", (enqueued,))
        assert connection.execute("select pgreact.task_id(%s)::text", (enqueued,)).fetchone() == (given,)
        connection.execute("select pgreact.cancel(%s)", (enqueued,))


def test_enqueue_of_a_duplicate_returns_the_ids_of_the_first_job(running: Cluster) -> None:
    with running.database.connect() as connection:
        first = pgreact.enqueue(connection, "x", unique_key="u", run_at=3600)
        again = pgreact.enqueue(connection, "x", unique_key="u", task_id=uuid4())
        (many,) = pgreact.enqueue_many(connection, [pgreact.Job("x", unique_key="u", task_id=uuid4())])
        assert [(int(each), each.task_id) for each in (again, many)] == [(int(first), first.task_id)] * 2
        connection.execute("select pgreact.cancel(%s)", (first,))


# ---- unreadable messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": "not json {"},
        {"body": "[]", "content_type": "application/x-python-serialize", "content_encoding": "binary"},
        {"body": "[]", "headers": {"compression": "application/x-nobody-has-it"}},
    ],
    ids=["text", "pickle", "compression"],
)
def test_undecodable_message_ends_its_job(running: Cluster, wrong: dict[str, Any]) -> None:
    job = running.enqueue("plain")
    (claimed,) = running.claim()
    with Connection(running.broker) as connection:
        connection.Producer().publish(
            wrong["body"].encode(),
            routing_key=running.queue,
            declare=[Queue(running.queue)],
            content_type=wrong.get("content_type", "application/json"),
            content_encoding=wrong.get("content_encoding", "utf-8"),
            headers={
                "task": "pgreact.job",
                "id": claimed["task_id"],
                "pgreact_job": job,
                "pgreact_claim": claimed["claim_id"],
                "pgreact_task": claimed["task"],
                **wrong.get("headers", {}),
            },
        )
    running.until_settled(job, "invalid")
    assert "its message cannot be read" in running.error(job)
