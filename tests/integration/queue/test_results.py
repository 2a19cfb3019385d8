"""Results of jobs in PostgreSQL: who writes one, what is read of it, and when it goes."""

import json
from typing import Any
from uuid import uuid4

from tests.queue_steps import Queue


def store(queue: Queue, job: int, claim: str, value: Any = None, error: Any = None) -> bool:
    """Keep what an attempt returned, or its error, for an hour."""
    return bool(
        queue.value(
            "select pgreact.store_result(%s, %s, %s, %s, '1 h')",
            job,
            claim,
            None if error else json.dumps(value),
            json.dumps(error) if error else None,
        )
    )


def claim_id(queue: Queue, job: int) -> str:
    """Return the UUID of the attempt that is in progress."""
    return str(queue.value("select claim_id from pgreact.in_progress where id = %s", job))


def started(queue: Queue, **arguments: object) -> tuple[int, str]:
    """Enqueue a job, claim and start it; return its id and that of the attempt."""
    job = queue.add(**arguments)
    queue.claim()
    queue.start(job)
    return job, claim_id(queue, job)


def result(queue: Queue, job: int) -> Any:
    """Return what is known of a job by the ids of its result."""
    task_id = queue.value(
        "select coalesce(pgreact.task_id(%s), (select task_id from pgreact.result where job = %s))", job, job
    )
    return queue.value("select pgreact.job_result(%s, %s)", job, task_id)


def test_the_state_is_where_the_job_is(steps: Queue) -> None:
    job = steps.add(args="'[1]'")
    assert (result(steps, job)["state"], result(steps, job)["args"]) == ("ready", [1])
    steps.claim()
    assert (result(steps, job)["state"], result(steps, job)["attempt"]) == ("ready", 0)
    steps.start(job)
    found = result(steps, job)
    assert (found["state"], found["attempt"], found["worker"]) == ("running", 1, "w")
    assert store(steps, job, claim_id(steps, job), {"a": [1, None]})
    assert result(steps, job)["state"] == "running"
    steps.settle(job)
    found = result(steps, job)
    assert (found["state"], found["value"], found["workers"], found["errors"]) == (
        "done",
        {"a": [1, None]},
        ["w"],
        [],
    )
    assert found["args"] == [1]
    assert found["enqueued_at"] <= found["started_at"] == found["last_started_at"] <= found["finished_at"]


def test_errors_of_attempts_are_kept_in_order(steps: Queue) -> None:
    job, claim = started(steps, max_attempts="3", backoff="'0'")
    assert store(steps, job, claim, error={"class": "a", "traceback": "1"})
    steps.settle(job, "failed", "a")
    found = result(steps, job)
    assert (found["state"], found["attempt"], found["finished_at"]) == ("ready", 1, None)
    steps.claim()
    steps.start(job)
    steps.settle(job, "lost")
    steps.claim()
    steps.start(job)
    assert store(steps, job, claim_id(steps, job), error={"class": "b", "traceback": "2"})
    steps.settle(job, "failed", "b")
    steps.claim()
    steps.start(job)
    steps.settle(job, "failed", "not stored")
    found = result(steps, job)
    assert (found["state"], found["outcome"], found["error"]) == ("dead", "failed", "not stored")
    assert [error["class"] for error in found["errors"]] == ["a", "b"]
    assert (found["attempt"], found["kept"], found["workers"]) == (4, 3, ["w", "w"])
    steps.run("delete from pgreact.dead")
    assert result(steps, job)["state"] == "failed"


def test_only_the_attempt_in_progress_writes_a_result(steps: Queue) -> None:
    job = steps.add(backoff="'0'")
    steps.claim()
    assert not store(steps, job, claim_id(steps, job), "not started")
    steps.start(job)
    late = claim_id(steps, job)
    steps.settle(job, "lost")
    steps.claim()
    steps.start(job)
    assert not store(steps, job, late, "of the lost attempt")
    assert not store(steps, job, str(uuid4()), "of another job")
    assert store(steps, job, claim_id(steps, job), "of this one")
    steps.settle(job)
    assert not store(steps, job, late, "after the end")
    assert result(steps, job)["value"] == "of this one"


def test_a_result_is_found_by_both_ids_alone(steps: Queue) -> None:
    job, claim = started(steps)
    store(steps, job, claim, 1)
    for settled in (False, True):
        if settled:
            steps.settle(job)
        assert result(steps, job) is not None
        assert steps.value("select pgreact.job_result(%s, %s)", job, str(uuid4())) is None
        assert (
            steps.value("select pgreact.job_result(%s, (select task_id from pgreact.result))", job + 1)
            is None
        )


def test_an_id_that_comes_again_does_not_continue_an_old_result(steps: Queue) -> None:
    job, claim = started(steps)
    store(steps, job, claim, error={"class": "a", "traceback": "1"})
    steps.settle(job, "failed")
    steps.run("truncate pgreact.queue, pgreact.dead restart identity")
    again, claim = started(steps)
    assert again == job
    store(steps, job, claim, "new")
    found = result(steps, job)
    assert (found["errors"], found["kept"]) == ([], 1)


def test_each_result_deletes_two_that_have_expired(steps: Queue) -> None:
    for _ in range(5):
        store(steps, *started(steps), "old")
    steps.run("update pgreact.result set expires_at = now() - interval '1 s'")
    left = []
    for _ in range(3):
        store(steps, *started(steps), "new")
        left.append(steps.value("select count(*) from pgreact.result where expires_at < now()"))
    assert left == [3, 1, 0]
    assert steps.value("select count(*) from pgreact.result") == 3
