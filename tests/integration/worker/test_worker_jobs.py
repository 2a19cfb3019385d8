"""Jobs in Celery workers: processes of each pool, with Redis and PostgreSQL."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from celery import Celery
from celery.result import AsyncResult

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import NotGuarded
from pgreact.worker.jobs import Jobs
from pgreact.worker.run import Run, error_text, settled, snoozed
from tests import servers
from tests.harness import Database, eventually
from tests.jobs_cluster import Cluster, a_cluster, prepare
from tests.worker import ROOT


@pytest.fixture(scope="module", params=["early", "late"])
def one_that_forks(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, redis_url: str
) -> Iterator[Cluster]:
    late = {"TASK_LATE": "1"} if request.param == "late" else {}
    with a_cluster(postgres, redis_url, "prefork", **late) as found:
        yield found


@pytest.fixture
def prefork(one_that_forks: Cluster) -> Cluster:
    """A worker that acknowledges early, and one that does so late."""
    one_that_forks.forget()
    return one_that_forks


def result(cluster: Cluster, task_id: str) -> AsyncResult[Any]:
    """Return Celery's result of a task."""
    app = Celery("reader", backend=cluster.broker, set_as_current=False)
    return AsyncResult(task_id, app=app)


def dead(cluster: Cluster, job: int) -> tuple[Any, ...] | None:
    """Return outcome, attempt and error of a job in ``pgreact.dead``."""
    with cluster.database.connect() as connection:
        return connection.execute(
            "select outcome, attempt, error from pgreact.dead where id = %s", (job,)
        ).fetchone()


# ---- in every pool -----------------------------------------------------------------------------------------


def test_a_job_runs_and_is_done(cluster: Cluster) -> None:
    cluster.close_gate()
    job, task_id = cluster.run("plain", note="!")
    pid = cluster.until_running(task_id)
    worker = cluster.database.value("select worker from pgreact.in_progress where started_at is not null")
    assert worker == f"{cluster.workers[0].name} {pid}"
    cluster.open_gate()
    cluster.until_settled(job, "done")
    eventually(lambda: result(cluster, task_id).result == "result of plain!", "its result")
    assert cluster.database.value("select count(*) from pgreact.dead") == 0


def test_duplicate_message_runs_once(cluster: Cluster) -> None:
    cluster.close_gate()
    job = cluster.enqueue("plain")
    (task_id,) = cluster.dispatch(copies=3)
    cluster.until_running(task_id)
    cluster.open_gate()
    cluster.until_settled(job, "done")
    last, _ = cluster.run("plain", "last")
    cluster.until_settled(last, "done")
    cluster.workers[0].wait_for_log(
        f"message.dropped: job {job}, task {task_id}: another message runs or ran it"
    )
    assert cluster.runs() == ["plain", "last"]
    assert result(cluster, task_id).state == "SUCCESS"


def test_failing_job_is_tried_again_and_then_dead(cluster: Cluster) -> None:
    job = cluster.enqueue("failing", "as € told", sql="max_attempts => 2")
    cluster.until_settled(job, "failed", "failed", dispatching=True)
    outcome, attempt, error = dead(cluster, job) or ()
    assert (outcome, attempt) == ("failed", 2)
    said, *frames = error.splitlines()
    assert said == "RuntimeError: as € told"
    assert 'tests/jobs_app.py", line ' in frames[0]
    assert frames[0].endswith("in failing")
    assert cluster.runs() == ["failing"] * 2


def test_error_of_any_characters_is_stored(cluster: Cluster) -> None:
    job, _ = cluster.run("strange")
    cluster.until_settled(job, "failed")
    error = cluster.error(job)
    assert error.startswith("RuntimeError: zero \\x00 half \\udc80 euro € xxx")
    assert "in strange" in error
    assert len(error.encode()) <= 8192


def test_arguments_that_do_not_fit_run_nothing(cluster: Cluster) -> None:
    job, _ = cluster.run("plain", 1, 2, 3, sql="max_attempts => 5")
    cluster.until_settled(job, "invalid")
    assert cluster.error(job).startswith("the arguments do not fit the task: plain() takes from 1 to 2 pos")
    job, _ = cluster.run("plain", notes="")
    cluster.until_settled(job, "invalid")
    job, _ = cluster.run("loose", 1, 2)
    cluster.until_settled(job, "failed")
    assert cluster.runs() == []


def test_unknown_task_is_named_in_the_error(cluster: Cluster) -> None:
    job, _ = cluster.run("proj.absent", sql="max_attempts => 5")
    cluster.until_settled(job, "invalid")
    assert dead(cluster, job) == (
        "invalid",
        1,
        f'no task "proj.absent" in worker {cluster.workers[0].name}: import the module that defines it there',
    )


def test_unreadable_message_is_invalid(cluster: Cluster) -> None:
    job = cluster.enqueue("plain")
    cluster.dispatch(serializer="pickle")
    cluster.until_settled(job, "invalid")
    assert "its message cannot be read: " in cluster.error(job)
    assert "pickle" in cluster.error(job)


@pytest.mark.parametrize("when", [{"countdown": 0}, {"countdown": 0.3}, {"eta": 0.3}])
def test_retry_of_celery_belongs_to_the_same_attempt(cluster: Cluster, when: dict[str, float]) -> None:
    job, task_id = cluster.run("later", **when)
    cluster.until_settled(job, "done", dispatching=True)
    assert cluster.runs("task_id") == [task_id] * 2


def test_a_job_waits_for_its_retry_in_the_queue(cluster: Cluster) -> None:
    for when, seconds in (({"countdown": 1000}, 1000), ({"eta": 2000}, 2000)):
        job, task_id = cluster.run("later", **when)
        cluster.database.until(f"select exists (select from pgreact.queue where id = {job})")
        cluster.database.until(
            f"select state = 'delayed' and run_at - now() between '{seconds - 10} s' and '{seconds} s' "
            f"and task_id = '{task_id}' and attempt = 0 and error like '%Retry %' "
            f"from pgreact.queue where id = {job}"
        )
        assert cluster.attempts(job) == []
        assert cluster.database.value("select count(*) from pgreact.in_progress") == 0
        cluster.database.value("select pgreact.retry(%s)", job)  # now
        cluster.until_settled(job, "done", dispatching=True)
        assert cluster.runs("task_id")[-2:] == [task_id] * 2


@pytest.mark.parametrize("throw", [True, False])
def test_a_retry_may_have_other_arguments_and_may_not_be_raised(cluster: Cluster, throw: bool) -> None:
    job, task_id = cluster.run("changing", 1, throw=throw)
    cluster.until_settled(job, "done", dispatching=True)
    assert cluster.runs() == ["changing 1", "changing 2"]
    assert cluster.runs("task_id") == [task_id] * 2


def test_retry_with_arguments_beyond_json_ends_the_job(cluster: Cluster) -> None:
    job, _ = cluster.run("changing", strange=True)
    cluster.until_settled(job, "rejected")
    assert "args[0]: type object is not JSON" in cluster.error(job)
    job, _ = cluster.run("raising")
    cluster.until_settled(job, "failed")


def test_jobs_waiting_for_retries_hold_up_no_other(cluster: Cluster) -> None:
    cluster.database.run("update pgreact.lane set max_in_progress = 2")
    waiting = [cluster.enqueue("later", countdown=1000) for _ in range(4)]
    other = cluster.enqueue("plain")
    cluster.until_settled(other, "done", dispatching=True)
    cluster.database.until(
        f"select count(*) = {len(waiting)} from pgreact.queue where state = 'delayed' and resume is not null"
    )
    cluster.database.run("update pgreact.lane set max_in_progress = null")


def test_retries_of_celery_come_before_the_jobs_attempts(cluster: Cluster) -> None:
    job, _ = cluster.run("trying")
    cluster.until_settled(job, "done", dispatching=True)
    assert len(cluster.runs()) == 2
    job = cluster.enqueue("trying", 4, sql="max_attempts => 2")
    cluster.until_settled(job, "failed", "failed", dispatching=True)
    assert cluster.error(job).startswith("RuntimeError: as told")
    assert len(cluster.runs()) == 2 + 2 * 3


def test_ignoring_task_is_done_and_rejecting_task_is_rejected(cluster: Cluster) -> None:
    job, _ = cluster.run("ignoring")
    cluster.until_settled(job, "done")
    job, _ = cluster.run("rejecting", sql="max_attempts => 5")
    cluster.until_settled(job, "rejected")
    assert "as told" in cluster.error(job)
    job, _ = cluster.run("rejecting", broker=True)
    cluster.until_settled(job, "failed")


def test_task_failing_before_its_body_fails_its_job(cluster: Cluster) -> None:
    job, _ = cluster.run("hooked")
    cluster.until_settled(job, "failed")
    assert cluster.error(job).startswith("RuntimeError: not even begun")
    assert cluster.runs() == []


def test_expired_or_revoked_message_ends_its_job(cluster: Cluster) -> None:
    job = cluster.enqueue("plain")
    cluster.dispatch(expires=-1)
    cluster.until_settled(job, "expired")
    job = cluster.enqueue("plain", sql="max_attempts => 5")
    claimed = cluster.claim()
    task_id = str(claimed[0]["task_id"])
    cluster.revoke(task_id)
    cluster.workers[0].wait_for_log(f"Tasks flagged as revoked: {task_id}")
    cluster.post(claimed)
    cluster.until_settled(job, "revoked")
    assert cluster.runs() == []


def test_expired_duplicate_does_not_end_the_running_job(cluster: Cluster) -> None:
    if cluster.pool == "solo":
        pytest.skip("it does one thing at a time")
    cluster.close_gate()
    job, task_id = cluster.run("plain")
    cluster.until_running(task_id)
    cluster.database.run("update pgreact.in_progress set published_at = null")
    cluster.dispatch(expires=-1)
    cluster.workers[0].wait_for_log(f"Discarding revoked task: tests.jobs_app.plain[{task_id}]")
    cluster.open_gate()
    cluster.until_settled(job, "done")


def test_a_body_may_run_its_own_task_and_others(cluster: Cluster) -> None:
    job, _ = cluster.run("nested")
    cluster.until_settled(job, "done")
    cluster.database.until("select count(*) = 5 from runs where ended is not null")
    assert cluster.runs() == ["nested"] * 3 + ["called", "sent"]


def test_message_of_no_job_runs_as_before(cluster: Cluster) -> None:
    task_id = cluster.send("plain")
    eventually(lambda: result(cluster, task_id).state == "SUCCESS", "its result")
    assert cluster.database.value("select count(*) from pgreact.history") == 0


def test_job_of_a_canvas_sends_its_tasks(cluster: Cluster) -> None:
    app = Celery("canvas", set_as_current=False)
    step = [app.signature("tests.jobs_app.plain", (name,), immutable=True) for name in ("a", "b", "c")]
    canvas = step[0] | step[1] | step[2]
    canvas.set(queue=cluster.queue)
    job, _ = cluster.run("pgreact.run_canvas", signature=canvas)
    cluster.until_settled(job, "done")
    cluster.database.until("select count(*) = 3 from runs where ended is not null")
    assert cluster.runs() == ["a", "b", "c"]


def test_replaced_task_holds_its_job_until_the_replacement_ended(cluster: Cluster) -> None:
    cluster.close_gate()
    job = cluster.enqueue("replacing", "plain", sql="max_attempts => 1, key => 'k'")
    behind = cluster.enqueue("plain", "behind", sql="key => 'k'")
    (task_id,) = cluster.dispatch()
    cluster.until_running(task_id)
    cluster.open_gate()
    cluster.until_running(task_id, 2)
    # no claim while the replacement runs takes another job of the key
    cluster.database.until(f"select not exists (select from pgreact.in_progress where id = {job})")
    cluster.until_settled(job, "done")
    assert cluster.runs("task_id") == [task_id] * 2
    cluster.until_settled(behind, "done", dispatching=True)
    assert cluster.runs() == ["replacing", "plain", "behind"]


def test_job_is_in_progress_while_its_replacement_runs(cluster: Cluster) -> None:
    job = cluster.enqueue("replacing", "again", sql="max_attempts => 1, key => 'k'")
    cluster.enqueue("plain", "behind", sql="key => 'k'")
    # only the replacement waits
    cluster.database.run(
        "create or replace function public.shut() returns trigger language plpgsql as $$ begin "
        "if new.name = 'again' then perform pg_advisory_lock_shared(7003); "
        "perform pg_advisory_unlock_shared(7003); end if; return new; end $$",
        "create trigger shut before insert on runs for each row execute function public.shut()",
    )
    with cluster.database.connect() as gate:
        gate.execute("select pg_advisory_lock(7003)")
        cluster.dispatch()
        cluster.database.until("select exists (select from pg_locks where objid = 7003 and not granted)")
        cluster.database.until("select retries = 1 from pgreact.in_progress")
        assert cluster.claim() == []
        assert cluster.attempts(job) == []
    cluster.until_settled(job, "done")
    cluster.database.run("drop trigger shut on runs")


def test_replacement_that_fails_ends_the_attempt_and_the_next_one_begins_anew(cluster: Cluster) -> None:
    job = cluster.enqueue("replacing", "failing", sql="max_attempts => 2")
    cluster.until_settled(job, "failed", "failed", dispatching=True)
    assert cluster.error(job).startswith("RuntimeError: as told")
    assert cluster.runs() == ["replacing", "failing"] * 2


def test_replacement_retries_and_is_replaced_within_the_same_attempt(cluster: Cluster) -> None:
    job, task_id = cluster.run("replacing", "replacing", "trying")
    cluster.until_settled(job, "done", dispatching=True)
    assert cluster.runs() == ["replacing", "replacing", "trying", "trying"]
    assert set(cluster.runs("task_id")) <= {task_id, None}


def test_job_is_done_when_a_chain_replaces_its_task(cluster: Cluster) -> None:
    job, _ = cluster.run("replacing", "plain", "noop", "again", chained=True)
    cluster.until_settled(job, "done")
    cluster.database.until("select count(*) = 3 from runs where ended is not null")
    assert cluster.runs() == ["replacing", "plain", "again"]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("asynchronous", "async def: Celery does not run coroutines"),
        ("generating", "a def with yield: Celery does not run generators"),
        ("deferring", "tests.jobs_app.deferring returned a coroutine: Celery does not run coroutines"),
    ],
)
def test_task_that_celery_does_not_run_is_invalid(cluster: Cluster, task: str, reason: str) -> None:
    job, _ = cluster.run(task, sql="max_attempts => 5")
    cluster.until_settled(job, "invalid")
    assert cluster.error(job).startswith(reason)
    if task != "deferring":
        cluster.workers[0].wait_for_log(f"task.unrunnable: tests.jobs_app.{task}: {reason}")
    assert not [line for line in cluster.workers[0].lines if "was never awaited" in line]


WRONG: list[dict[str, Any]] = [
    {"time_limit": "abc"},
    {"time_limit": -1},
    {"soft_time_limit": {"a": 1}},
    {"shadow": ["x"]},
    {"eta": "tomorrow"},
    {"eta": "9999-12-31T23:59:59+00:00"},
    {"root_id": {"a": 1}},
    {"parent_id": [1]},
    {"group_id": [1]},
    *(
        {"headers": header}
        for header in (
            {"timelimit": "ab"},
            {"timelimit": [1, 2, 3]},
            {"timelimit": ["x", "y"]},
            {"id": ["x"]},
            {"retries": "many"},
            {"retries": {}},
            {"stamped_headers": 5},
            {"stamped_headers": [[1]]},
            {"stamps": 5},
            {"argsrepr": 5},
            {"eta": 5},
            {"expires": [1]},
            {"expires": "0001-01-01T00:00:00+23:59"},
            {"shadow": {"x": 1}},
            {"headers": 5},
        )
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_message_that_no_worker_can_start_costs_its_job_alone(
    cluster: Cluster, wrong: dict[str, Any]
) -> None:
    job = cluster.enqueue("plain")
    (claimed,) = cluster.claim()
    cluster.post([claimed], **wrong)
    cluster.until_settled(job, "invalid")
    assert "its message cannot be read: its header " in cluster.error(job)
    after, _ = cluster.run("plain", "after")
    cluster.until_settled(after, "done")
    assert cluster.runs() == ["after"]


@pytest.mark.parametrize(
    "wrong", ["x", "9" * 5000, -1, True, 1.5, [1], {"a": 1}], ids=lambda value: repr(value)[:9]
)
@pytest.mark.parametrize("header", ["pgreact_job", "pgreact_claim", "pgreact_task"])
def test_malformed_header_ends_no_worker(cluster: Cluster, header: str, wrong: object) -> None:
    cluster.enqueue("plain")
    cluster.dispatch(headers={header: wrong})
    after, _ = cluster.run("plain", "after")
    cluster.until_settled(after, "done")
    assert cluster.runs() == ["after"]


def test_leases_are_renewed_while_bodies_run(cluster: Cluster) -> None:
    cluster.lease("1 s")
    cluster.close_gate()
    job, task_id = cluster.run("plain")
    cluster.until_running(task_id)
    cluster.database.until("select lease_until > started_at + interval '2.3 s' from pgreact.in_progress")
    assert cluster.claim() == []
    cluster.open_gate()
    cluster.until_settled(job, "done")


# ---- what kills a child ------------------------------------------------------------------------------------


def test_a_soft_time_limit_is_a_failure(prefork: Cluster) -> None:
    prefork.close_gate()
    job, _ = prefork.run("soft")
    prefork.until_settled(job, "failed")
    assert prefork.error(job).startswith("billiard.exceptions.SoftTimeLimitExceeded")


def test_a_hard_time_limit_is_a_failure_once_its_child_is_dead(prefork: Cluster) -> None:
    prefork.close_gate()
    job, _ = prefork.run("hard")
    pid = prefork.until_running()
    prefork.until_settled(job, "failed")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert prefork.error(job).startswith("billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1")


def test_killed_child_costs_its_job_one_attempt_and_no_wait(prefork: Cluster) -> None:
    prefork.close_gate()
    job, task_id = prefork.run("plain", sql="max_attempts => 3")
    os.kill(prefork.until_running(), signal.SIGKILL)
    prefork.until_settled(job, "lost")
    assert "signal 9 (SIGKILL)" in prefork.error(job)
    again = prefork.dispatch()
    prefork.open_gate()
    prefork.until_settled(job, "lost", "done")
    assert prefork.runs("task_id") == [task_id, *again]


@pytest.mark.parametrize("one_that_forks", ["early"], indirect=True)
def test_a_redelivered_message_of_a_killed_child_is_dropped(prefork: Cluster) -> None:
    prefork.close_gate()
    job, task_id = prefork.run("again", sql="max_attempts => 2")
    os.kill(prefork.until_running(), signal.SIGKILL)
    prefork.until_settled(job, "lost")
    prefork.workers[0].wait_for_log(f"message.dropped: job {job}, task {task_id}")
    prefork.open_gate()
    prefork.until_settled(job, "lost", "done", dispatching=True)
    assert len(prefork.runs()) == 2


def test_task_revoked_while_running_ends_for_good(prefork: Cluster) -> None:
    prefork.close_gate()
    job, task_id = prefork.run("plain", sql="max_attempts => 5")
    pid = prefork.until_running()
    prefork.revoke(task_id, terminate=True)
    prefork.until_settled(job, "revoked")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert (dead(prefork, job) or ())[:2] == ("revoked", 1)


def test_replacement_that_is_lost_is_repeated_from_the_start(prefork: Cluster) -> None:
    prefork.close_gate()
    job, task_id = prefork.run("replacing", "plain", sql="max_attempts => 2")
    prefork.until_running(task_id)
    prefork.database.run(
        "create or replace function public.shut() returns trigger language plpgsql as $$ begin "
        "if new.name = 'plain' then perform pg_advisory_lock_shared(7003); end if; return null; end $$",
        "create trigger shut after insert on runs for each row execute function public.shut()",
    )
    with prefork.database.connect() as gate:
        gate.execute("select pg_advisory_lock(7003)")
        prefork.open_gate()
        waits = "from pg_locks where objid = 7003 and not granted"
        prefork.database.until(f"select exists (select {waits})")
        worker = prefork.database.value("select worker from pgreact.in_progress")
        os.kill(int(worker.split()[-1]), signal.SIGKILL)
        prefork.until_settled(job, "lost")
    prefork.database.run("drop trigger shut on runs")
    prefork.until_settled(job, "lost", "done", dispatching=True)
    assert prefork.runs().count("replacing") == 2


def test_task_ending_its_process_is_lost(prefork: Cluster) -> None:
    job, _ = prefork.run("leaving")
    prefork.until_settled(job, "lost")


def test_requeued_message_is_redelivered(prefork: Cluster) -> None:
    job, task_id = prefork.run("rejecting", requeue=True, sql="max_attempts => 2")
    if "TASK_LATE" in prefork.workers[0].environ:
        prefork.until_settled(job, "done")
        assert prefork.runs("task_id") == [task_id] * 2
    else:  # the message was acknowledged, and is gone
        prefork.until_settled(job, "lost")


# ---- without a worker --------------------------------------------------------------------------------------


@pytest.fixture
def claimed(database: Database) -> Callable[..., Run]:
    """Return a function that claims a job and returns its run."""
    prepare(database)

    def claim(**values: Any) -> Run:
        database.value("select pgreact.enqueue('x', lane => 'default')")
        job = database.value("select pgreact.claim(1) -> 'jobs' -> 0")
        return Run(job["id"], job["claim_id"], values.get("retries", 0), "w")

    return claim


@pytest.fixture
def jobs(database: Database) -> Iterator[Jobs]:
    found = Jobs(database.dsn, timeout=0.0)
    yield found
    found.close()


def test_an_attempt_is_taken_once_per_retry(claimed: Callable[..., Run], jobs: Jobs) -> None:
    first = claimed()
    retry = Run(first.job, first.claim, 1, "w")
    assert [jobs.start(run) for run in (first, first, retry, retry, first)] == [
        True,
        False,
        True,
        False,
        False,
    ]
    jobs.end(snoozed(first, 0.0, redelivered=True))
    assert jobs.start(retry)
    jobs.end(settled(retry, "done"))
    assert not jobs.start(Run(first.job, first.claim, 2, "w"))


def test_late_settlement_changes_nothing(
    claimed: Callable[..., Run], jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run = claimed()
    assert jobs.start(run)
    database.run("select pgreact.settle(id, claim_id, 'rejected') from pgreact.in_progress")
    jobs.end(settled(run, "done"))
    assert (
        f"settlement.ignored: job {run.job}, task {run.task_id}: done: the attempt had ended: " in caplog.text
    )
    assert database.value("select outcome from pgreact.dead") == "rejected"


def test_idle_process_runs_no_statement(claimed: Callable[..., Run], jobs: Jobs, database: Database) -> None:
    database.run("update pgreact.queue_setting set lease = '1 s'")
    idle = claimed()
    assert jobs.start(idle)
    with jobs._pool.session() as session:
        assert session._connection
        pid = session._connection.info.backend_pid
    jobs.end(settled(idle, "done"))
    busy, run = Jobs(database.dsn), claimed()
    assert busy.start(run)
    database.until("select lease_until > started_at + interval '2 s' from pgreact.in_progress")
    busy.end(settled(run, "done"))
    busy.close()
    last = database.value(f"select query from pg_stat_activity where pid = {pid}")
    assert last.startswith("select pgreact.settle(")
    ours = "datname = current_database() and application_name like 'pgreact worker%'"
    assert database.value(f"select count(*) from pg_stat_activity where {ours}") == 1


def test_a_shorter_lease_is_kept_as_soon_as_it_is_known(
    claimed: Callable[..., Run], jobs: Jobs, database: Database
) -> None:
    database.run("update pgreact.queue_setting set lease = '3 s'")
    run = claimed()
    assert jobs.start(run)
    database.run("update pgreact.queue_setting set lease = '1 s'")
    database.until("select lease_until > started_at + interval '4 s' from pgreact.in_progress")


def test_character_missing_in_the_database_encoding_is_stored_in_ascii(postgres: EmbeddedPostgres) -> None:
    admin, name = Database(postgres.dsn()), f"t_{uuid4().hex[:12]}"
    admin.run(f"create database {name} template template0 encoding latin1 locale 'C'")
    database = Database(postgres.dsn(dbname=name))
    prepare(database)
    database.value("select pgreact.enqueue('x', lane => 'default')")
    job = database.value("select pgreact.claim(1) -> 'jobs' -> 0")
    run, jobs = Run(job["id"], job["claim_id"], 0, "w"), Jobs(database.dsn)
    assert jobs.start(run)
    jobs.end(settled(run, "failed", "ä € Ω"))
    jobs.close()
    assert database.value("select error from pgreact.dead") == "\\xe4 \\u20ac \\u03a9"
    admin.run(f"drop database {name} with (force)")


def test_error_text_has_the_message_and_the_innermost_frames() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("too deep")

    with pytest.raises(ValueError, match="too deep") as caught:
        deep(50)
    lines = error_text(caught.value).splitlines()
    assert lines[0] == "ValueError: too deep"
    assert "in deep" in lines[1]
    assert len(lines) < 20

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "str() failed" in error_text(Mute())
    assert len(error_text(ValueError("€" * 9000)).encode()) <= 8192


FORKING = """
import os, sys
from pgreact.worker.jobs import Jobs
from pgreact.worker.run import Run, settled

jobs = Jobs(os.environ["PROJ_DSN"])
one, two = (Run(int(job), task_id, 0, "w") for job, task_id in (pair.split("/") for pair in sys.argv[1:]))
assert jobs.start(one)
child = os.fork()
if not child:
    jobs.end(settled(one, "failed"))  # as if the body had forked, and returned here
    assert jobs._renewer._runs == set()
    two.pid = os.getpid()
    assert jobs.start(two)
    jobs.end(settled(two, "done"))
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
jobs.end(settled(one, "done"))
"""


def test_forked_process_runs_jobs_of_its_own(claimed: Callable[..., Run], database: Database) -> None:
    database.run("update pgreact.queue_setting set retention = '1 day'")
    runs = [claimed(), claimed()]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", "-c", FORKING]
        + [f"{run.job}/{run.claim}" for run in runs],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROJ_DSN": database.dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with database.connect() as connection:
        ended = connection.execute("select id, outcome from pgreact.history order by settled_at").fetchall()
    assert ended == [(runs[1].job, "done"), (runs[0].job, "done")]


def test_header_without_a_job_id_runs_nothing() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)

    @app.task(shared=False)
    def task() -> None:
        pytest.fail("it ran")

    pgreact.setup(app)
    app.finalize()
    for wrong in ("x", 0, 2**63, [1]):
        ended = task.apply(headers={"pgreact_job": wrong})
        assert isinstance(ended.result, NotGuarded)
        assert "not the id of a job" in str(ended.result)
    ended = task.apply(headers={"pgreact_job": 5, "pgreact_claim": "mine"})
    assert "pgreact_claim is 'mine', not a UUID" in str(ended.result)


def test_role_needs_only_execute_on_the_functions(
    database: Database, claimed: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_worker"
    database.run(f"create role {name} {database.login}")
    jobs, run = Jobs(psycopg.conninfo.make_conninfo(database.dsn, user=name)), claimed()
    assert not jobs.start(run)
    assert re.search(r"job.start_failed: .* cannot be started; .* permission denied", caplog.text)
    caplog.clear()
    database.run(
        f"grant usage on schema pgreact to {name}",
        "grant execute on function pgreact.start, pgreact.settle, pgreact.snooze, pgreact.renew, "
        f"pgreact.abandon to {name}",
    )
    assert jobs.start(run)
    jobs._renewer._renew(everything=True)
    jobs.end(snoozed(run, 0.0))
    jobs.end(settled(run, "done"))
    jobs.close()
    assert not caplog.records
    database.run(f"drop owned by {name}", f"drop role {name}")


def test_a_pooler_in_transaction_mode_may_stand_between(
    database: Database, claimed: Callable[..., Run]
) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(database.dsn) as bouncer:
        jobs = Jobs(bouncer.url)
        for _ in range(3):
            run = claimed()
            assert jobs.start(run)
            jobs._renewer._renew(everything=True)
            jobs.end(settled(run, "done"))
        jobs.close()
    assert database.value("select count(*) from pgreact.in_progress") == 0
