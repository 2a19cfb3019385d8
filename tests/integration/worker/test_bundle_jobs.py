"""Bundles in Celery workers: processes of each pool, with Redis and PostgreSQL."""

from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.bundles import claim_jobs, post_bundle, run_bundle, until_untouched
from tests.harness import eventually
from tests.jobs_cluster import Cluster


def result(cluster: Cluster, task_id: str) -> AsyncResult[Any]:
    """Return Celery's result of a task."""
    return AsyncResult(task_id, app=Celery("reader", backend=cluster.broker, set_as_current=False))


def until_settled(cluster: Cluster, jobs: list[dict[str, Any]], outcome: str = "done") -> None:
    """Wait until all attempts of jobs ended, one each; check how.

    On a busy machine any body may last long enough for the others to be handed back.
    """
    for job in jobs:
        cluster.until_settled(job["id"], outcome, dispatching=True)


def test_each_job_runs_under_its_own_task_and_attempt(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, *[("brief", f"n{number}") for number in range(12)])
    until_settled(cluster, jobs)
    assert sorted(cluster.runs("task_id")) == sorted(job["task_id"] for job in jobs)
    claims = dict(zip(cluster.runs("name"), cluster.runs("claim"), strict=True))
    assert claims["n0"] == jobs[0]["claim_id"]
    assert len(set(claims.values())) == 12
    with cluster.database.connect() as connection:
        rows = connection.execute(
            "select h.attempt, h.worker = %s || r.pid, h.started_at <= h.settled_at "
            "from pgreact.history h join runs r on r.task_id = h.task_id::text",
            (f"{cluster.workers[0].name} ",),
        ).fetchall()
    assert rows == [(1, True, True)] * 12
    last = result(cluster, jobs[11]["task_id"])
    eventually(lambda: last.result == "result of n11", "the result of the last")


def test_jobs_that_end_otherwise_are_settled_as_with_messages_of_their_own(cluster: Cluster) -> None:
    first, second, third = run_bundle(
        cluster, ("brief", "a"), ("brief", "b", "fail"), ("brief", "c"), sql="max_attempts => 1"
    )
    until_settled(cluster, [first, third])
    cluster.until_settled(second["id"], "failed", dispatching=True)
    assert cluster.error(second["id"]).startswith("RuntimeError: as told\n")
    assert "in brief" in cluster.error(second["id"])
    assert sorted(cluster.runs()) == ["a", "b", "c"]


def test_retry_waits_in_the_queue_and_keeps_its_attempt(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, ("later", {"countdown": 0}), ("later", {"countdown": 0}))
    for job in jobs:
        cluster.until_settled(job["id"], "done", dispatching=True)
    assert cluster.runs() == ["later"] * 4


def test_autoretry_and_failure_with_attempts_left(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, ("trying", 1), ("trying", 0))
    for job in jobs:
        cluster.until_settled(job["id"], "done", dispatching=True)
    assert cluster.runs() == ["trying"] * 3
    (job,) = run_bundle(cluster, ("failing",), sql="max_attempts => 2")
    cluster.until_settled(job["id"], "failed", "failed", dispatching=True)


def test_replaced_rejected_and_ignored_tasks(cluster: Cluster) -> None:
    first, second = run_bundle(cluster, ("replacing", "plain"), ("replacing", "plain"))
    until_settled(cluster, [first, second])
    assert sorted(cluster.runs()) == ["plain", "plain", "replacing", "replacing"]
    (job,) = run_bundle(cluster, ("rejecting",))
    cluster.until_settled(job["id"], "rejected")
    (job,) = run_bundle(cluster, ("ignoring",))
    cluster.until_settled(job["id"], "done")
    (job,) = run_bundle(cluster, ("rejecting", {"requeue": True}))
    cluster.until_settled(job["id"], "lost", "done", dispatching=True)


def test_job_whose_task_fails_before_its_body_is_failed(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, ("hooked",), ("hooked",))
    until_settled(cluster, jobs, "failed")
    assert "not even begun" in cluster.error(jobs[1]["id"])


def test_arguments_that_do_not_fit_or_cannot_be_read_concern_one_job(cluster: Cluster) -> None:
    strange = {"__type__": "datetime", "__value__": "no date"}
    jobs = run_bundle(
        cluster,
        ("brief", "a"),
        ("brief", 1, 2, 3),
        ("brief", strange),
        ("brief", "b"),
        sql="max_attempts => 5",
    )
    cluster.until_settled(jobs[1]["id"], "invalid", dispatching=True)
    cluster.until_settled(jobs[2]["id"], "invalid", dispatching=True)
    until_settled(cluster, [jobs[0], jobs[3]])
    assert cluster.error(jobs[1]["id"]).startswith("the arguments do not fit the task: brief() takes from")
    assert cluster.error(jobs[2]["id"]).startswith("its arguments cannot be read: ")
    assert cluster.runs() == ["a", "b"]


def test_duplicate_bundle_runs_each_job_once(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, *[("brief",)] * 6, copies=3)
    until_settled(cluster, jobs)
    last = run_bundle(cluster, ("brief", "last"))
    until_settled(cluster, last)
    assert cluster.runs() == ["brief"] * 6 + ["last"]
    cluster.workers[0].wait_for_log(f"message.dropped: job {jobs[5]['id']}, task {jobs[5]['task_id']}: ")


def test_job_that_was_cancelled_does_not_run(cluster: Cluster) -> None:
    jobs = claim_jobs(cluster, ("brief", "a"), ("brief", "b"), ("brief", "c"))
    cluster.database.value("select pgreact.cancel(%s)", jobs[1]["id"])
    post_bundle(cluster, jobs)
    until_settled(cluster, [jobs[0], jobs[2]])
    assert cluster.runs() == ["a", "c"]


def test_nothing_waits_behind_a_slow_job(cluster: Cluster) -> None:
    cluster.close_gate()
    cluster.lease("2 s")
    quick = [("brief", "quick")] * 7
    until_settled(cluster, run_bundle(cluster, *quick))  # so that several are begun together
    jobs = run_bundle(cluster, ("brief", "a"), ("brief", "slow", "wait"), *[("brief", "late")] * 7)
    cluster.until_running(jobs[1]["task_id"])
    until_untouched(cluster, jobs[2:])
    cluster.until_settled(jobs[0]["id"], "done")
    cluster.database.until(
        "select lease_until > started_at + interval '3 s' from pgreact.in_progress"
    )  # its lease is renewed
    cluster.open_gate()
    cluster.until_settled(jobs[1]["id"], "done")
    assert cluster.database.value("select count(*) from pgreact.queue") == 7
    cluster.dispatch()
    until_settled(cluster, jobs[2:])
    assert sorted(cluster.runs()) == sorted(["quick"] * 7 + ["a", "slow"] + ["late"] * 7)


def test_job_that_was_revoked_before_is_revoked_alone(cluster: Cluster) -> None:
    jobs = claim_jobs(cluster, ("brief", "a"), ("brief", "b"), ("brief", "c"))
    cluster.revoke(jobs[1]["task_id"])
    asking = Celery("asking", broker=cluster.broker, set_as_current=False).control.inspect(
        [cluster.workers[0].name], timeout=5
    )
    eventually(
        lambda: jobs[1]["task_id"] in (asking.revoked() or {}).get(cluster.workers[0].name, []),
        "the worker knows that it is revoked",
    )
    post_bundle(cluster, jobs)
    cluster.until_settled(jobs[1]["id"], "revoked")
    until_settled(cluster, [jobs[0], jobs[2]])
    assert cluster.runs() == ["a", "c"]
    eventually(lambda: result(cluster, jobs[1]["task_id"]).state == "REVOKED", "the result says so")


def test_unknown_task_is_named_in_each_error(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, ("proj.absent",), ("proj.absent",), sql="max_attempts => 5")
    until_settled(cluster, jobs, "invalid")
    assert cluster.error(jobs[1]["id"]) == (
        f'no task "proj.absent" in worker {cluster.workers[0].name}: import the module that defines it there'
    )
    until_settled(cluster, run_bundle(cluster, ("brief",)))


def test_task_with_a_limit_of_its_own_runs_by_messages_of_its_own(cluster: Cluster) -> None:
    jobs = run_bundle(cluster, ("again",), ("again",), ("again",))
    until_settled(cluster, jobs)
    assert sorted(cluster.runs("task_id")) == sorted(job["task_id"] for job in jobs)
    cluster.workers[0].wait_for_log("bundle.split: tests.jobs_app.again: the task has a time limit")


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "[]", "5", "[[]]", '[[1,"x","t",1,false,"[]","{}"]]', '[[1,2]]', '"x"', "[" * 5000,
     '[["1","00000000-0000-0000-0000-000000000000","t",1,false,"[]","{}"]]', "null"],
)  # fmt: skip
def test_text_of_no_bundle_ends_no_worker(cluster: Cluster, text: str) -> None:
    jobs = claim_jobs(cluster, ("brief",))
    post_bundle(cluster, jobs, text=text)
    until_settled(cluster, run_bundle(cluster, ("brief", "next")))
    assert cluster.runs() == ["next"]
    # the lease lets the leader publish the job again
    assert cluster.database.value("select count(*) from pgreact.in_progress where started_at is null") == 1


@pytest.mark.parametrize(
    "headers",
    [{"pgreact_jobs": "x"}, {"pgreact_jobs": -1}, {"pgreact_jobs": [1]}, {"pgreact_jobs": 7},
     {"pgreact_jobs": 1, "pgreact_job": 5}, {"pgreact_task": 5}, {"pgreact_task": "pgreact.bundle"},
     {"pgreact_task": "pgreact.job"}, {"pgreact_skipped": 5}, {"pgreact_database": 5, "pgreact_events": 1},
     {"retries": "x"}, {"shadow": 5}, {"pgreact_apart": [1]}, {"pgreact_skipped": [[1]]}],
)  # fmt: skip
def test_headers_of_no_bundle_end_no_worker(cluster: Cluster, headers: dict[str, Any]) -> None:
    jobs = claim_jobs(cluster, ("brief",))
    post_bundle(cluster, jobs, headers=headers)
    until_settled(cluster, run_bundle(cluster, ("brief", "next")))
    assert cluster.workers[0].process.poll() is None


def test_arguments_of_no_bundle_end_no_worker(cluster: Cluster) -> None:
    app = Celery("sender", broker=cluster.broker, set_as_current=False)
    for args in ([], [5], ["x", "y"], [None]):
        headers = {"pgreact_jobs": 1, "pgreact_task": "tests.jobs_app.brief"}
        app.send_task("pgreact.job", args, {}, queue=cluster.queue, headers=headers)
        app.send_task("pgreact.job", args, {"a": 1}, queue=cluster.queue, headers=headers)
    until_settled(cluster, run_bundle(cluster, ("brief", "next")))


def test_worker_counts_each_job(cluster: Cluster) -> None:
    def counts() -> dict[str, int]:
        app = Celery("asking", broker=cluster.broker, set_as_current=False)
        answers = app.control.broadcast(
            "pgreact_report", arguments={"brief": True}, destination=[cluster.workers[0].name], reply=True
        )
        return dict(answers[0][cluster.workers[0].name]["counters"])

    before = counts()
    jobs = run_bundle(cluster, ("brief",), ("brief",), ("brief", "c", "fail"), sql="max_attempts => 1")
    until_settled(cluster, jobs[:2])
    cluster.until_settled(jobs[2]["id"], "failed", dispatching=True)
    eventually(lambda: counts()["settled_done"] == before["settled_done"] + 2, "two are done")
    after = counts()
    assert after["started"] == before["started"] + 3
    assert after["settled_failed"] == before["settled_failed"] + 1


def test_row_of_an_ended_job_that_is_locked_holds_up_no_other(cluster: Cluster) -> None:
    cluster.close_gate()
    jobs = run_bundle(cluster, ("brief", "a", "wait"))
    cluster.until_running(jobs[0]["task_id"])
    with cluster.database.connect() as other, other.transaction():
        other.execute("select from pgreact.in_progress where id = %s for update", (jobs[0]["id"],))
        cluster.open_gate()
        until_settled(cluster, run_bundle(cluster, ("brief",), ("brief",)))
        assert cluster.attempts(jobs[0]["id"]) == []
    until_settled(cluster, jobs)


def test_bundle_of_another_database_is_requeued(cluster: Cluster) -> None:
    jobs = claim_jobs(cluster, ("brief",), ("brief",))
    elsewhere = {"pgreact_database": "another"}
    post_bundle(cluster, jobs, headers=elsewhere)
    cluster.workers[0].wait_for_log("message.misrouted: job ")
    assert cluster.runs() == []
    assert cluster.database.value("select count(*) from pgreact.in_progress where started_at is null") == 2
