"""Bundles whose child, worker or job is stopped, and what Celery's commands and events say of their jobs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.events import EventReceiver

from pgreact.demo.postgres import EmbeddedPostgres
from tests.bundles import run_bundle, until_untouched
from tests.harness import DEADLINE, eventually
from tests.jobs_cluster import Cluster, a_cluster


@pytest.fixture(scope="module")
def one(postgres: EmbeddedPostgres, redis_url: str) -> Iterator[Cluster]:
    with a_cluster(postgres, redis_url, "prefork") as found:
        yield found


@pytest.fixture
def cluster(one: Cluster) -> Cluster:
    one.forget()
    return one


@pytest.fixture
def own_cluster(postgres: EmbeddedPostgres, redis_url: str) -> Iterator[Cluster]:
    """A cluster whose worker may be stopped."""
    with a_cluster(postgres, redis_url, "prefork") as found:
        yield found


def warm_up(cluster: Cluster) -> None:
    """Let both children begin several jobs together from now on."""
    for _ in range(6):
        jobs = run_bundle(cluster, *[("brief", "warm")] * 8)
        for job in jobs:
            cluster.until_settled(job["id"], "done", dispatching=True)  # a busy machine hands some back
    cluster.where_runs.run("truncate runs")


def asking(cluster: Cluster) -> Any:
    """Return Celery's control of the cluster's broker."""
    return Celery("asking", broker=cluster.broker, backend=cluster.broker, set_as_current=False).control


def test_killed_child_loses_its_job_and_spends_no_attempt_of_the_others(cluster: Cluster) -> None:
    cluster.close_gate()
    jobs = run_bundle(cluster, ("brief", "a"), ("brief", "slow", "wait"), *[("brief", "late")] * 4)
    pid = cluster.until_running(jobs[1]["task_id"])
    until_untouched(cluster, jobs[2:])
    os.kill(pid, signal.SIGKILL)
    cluster.until_settled(jobs[1]["id"], "lost")
    cluster.until_settled(jobs[0]["id"], "done")
    cluster.open_gate()
    cluster.dispatch()
    cluster.until_settled(jobs[1]["id"], "lost", "done")
    for job in jobs[2:]:
        cluster.until_settled(job["id"], "done")
    assert sorted(cluster.runs()) == ["a", *["late"] * 4, "slow", "slow"]


def test_child_that_ends_in_a_body_settles_what_ended_and_hands_back_the_rest(cluster: Cluster) -> None:
    warm_up(cluster)
    jobs = run_bundle(cluster, *[("brief", "a")] * 3, ("brief", "leaving", "exit"), *[("brief", "late")] * 4)
    cluster.until_settled(jobs[3]["id"], "lost")
    for job in jobs[:3]:
        cluster.until_settled(job["id"], "done")
    until_untouched(cluster, jobs[4:])
    assert cluster.runs() == ["a"] * 3 + ["leaving"]


def test_child_that_dies_at_once_loses_no_more_than_it_had_begun(cluster: Cluster) -> None:
    warm_up(cluster)
    jobs = run_bundle(cluster, *[("brief", "a")] * 3, ("brief", "gone", "die"), *[("brief", "late")] * 4)
    cluster.until_settled(jobs[3]["id"], "lost")
    # begun together: those before it ran, and are repeated all the same; none runs twice in one attempt
    eventually(
        lambda: (
            cluster.database.value("select count(*) from pgreact.queue") == 8
            or cluster.database.value("select count(*) from pgreact.in_progress") == 0
        ),
        "nothing is in progress",
    )
    for job in jobs:
        assert cluster.attempts(job["id"]) in (["lost"], ["done"], [])
    twice = "select count(*) from (select claim from runs group by claim having count(*) > 1) r"
    assert cluster.where_runs.value(twice) == 0
    assert cluster.database.value("select max(lost) from pgreact.queue") == 1


def test_revoked_and_terminated_job_is_revoked_alone(cluster: Cluster) -> None:
    cluster.close_gate()
    jobs = run_bundle(cluster, ("brief", "a"), ("brief", "slow", "wait"), *[("brief", "late")] * 4)
    cluster.until_running(jobs[1]["task_id"])
    found = asking(cluster).inspect(timeout=5).query_task(jobs[1]["task_id"])
    (answer,) = found.values()
    state, info = answer[jobs[1]["task_id"]]
    assert (state, info["name"]) == ("active", "tests.jobs_app.brief")
    (active,) = asking(cluster).inspect(timeout=5).active().values()
    assert [(one["name"], one["args"]) for one in active] == [("tests.jobs_app.brief", "(6 jobs)")]
    cluster.revoke(jobs[1]["task_id"], terminate=True)
    cluster.until_settled(jobs[1]["id"], "revoked")
    cluster.until_settled(jobs[0]["id"], "done")
    until_untouched(cluster, jobs[2:])
    (answer,) = asking(cluster).inspect(timeout=5).query_task(jobs[1]["task_id"]).values()
    assert answer == {}
    cluster.open_gate()


def test_cold_shutdown_gives_up_the_bundle(own_cluster: Cluster) -> None:
    own_cluster.close_gate()
    jobs = run_bundle(own_cluster, ("brief", "a"), ("brief", "slow", "wait"), *[("brief", "late")] * 4)
    own_cluster.until_running(jobs[1]["task_id"])
    own_cluster.workers[0].process.send_signal(signal.SIGQUIT)
    own_cluster.until_settled(jobs[1]["id"], "lost")
    until_untouched(own_cluster, jobs[2:])
    own_cluster.until_settled(jobs[0]["id"], "done")
    own_cluster.workers[0].process.wait(DEADLINE)


def test_warm_shutdown_ends_the_bundle(own_cluster: Cluster) -> None:
    own_cluster.close_gate()
    jobs = run_bundle(own_cluster, ("brief", "a"), ("brief", "slow", "wait"), *[("brief", "late")] * 4)
    own_cluster.until_running(jobs[1]["task_id"])
    until_untouched(own_cluster, jobs[2:])
    own_cluster.workers[0].process.send_signal(signal.SIGTERM)
    own_cluster.workers[0].wait_for_log("Warm shutdown")
    own_cluster.open_gate()
    for job in jobs[:2]:
        own_cluster.until_settled(job["id"], "done")
    assert own_cluster.workers[0].process.wait(DEADLINE) == 0


def test_worker_with_a_time_limit_sends_each_job_again_alone(
    postgres: EmbeddedPostgres, redis_url: str
) -> None:
    with a_cluster(postgres, redis_url, "prefork", TASK_TIME_LIMIT="30") as cluster:
        jobs = run_bundle(cluster, *[("brief",)] * 3)
        cluster.workers[0].wait_for_log("bundle.split: tests.jobs_app.brief: the worker has a time limit")
        cluster.database.until("select count(*) = 3 from pgreact.queue where alone and attempt = 0")
        cluster.dispatch()
        for job in jobs:
            cluster.until_settled(job["id"], "done")
        assert sorted(cluster.runs("task_id")) == sorted(job["task_id"] for job in jobs)


def test_events_tell_what_each_job_did(postgres: EmbeddedPostgres, redis_url: str) -> None:
    seen: list[dict[str, Any]] = []
    app = Celery("watching", broker=redis_url, set_as_current=False)
    with (
        a_cluster(postgres, redis_url, "prefork", TASK_EVENTS="1") as cluster,
        app.connection_for_read() as given,
        EventReceiver(given, app=app, handlers={"*": seen.append}).consumer_context() as (connection, *_),
    ):
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.2)  # Redis subscribes now
        calls = [("brief", "a"), ("brief", "b", "fail"), ("brief", "c")]
        jobs = run_bundle(cluster, *calls, sql="max_attempts => 1")
        retried = run_bundle(cluster, ("later", {"countdown": 60}), sql="max_attempts => 1")
        ours = {job["task_id"]: [] for job in jobs + retried}

        def arrived() -> bool:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            for events in ours.values():
                events.clear()
            for event in seen:
                if event.get("uuid") in ours:
                    ours[event["uuid"]].append(event)
            return all(len(events) == 3 for events in ours.values())

        eventually(arrived, "three events of each job")
    assert not [e for e in seen if e["type"].startswith("task-") and e["uuid"] not in ours]
    kinds = ["task-succeeded", "task-failed", "task-succeeded", "task-retried"]
    for (received, started, ended), kind in zip(ours.values(), kinds, strict=True):
        assert [event["type"] for event in (received, started, ended)] == [
            "task-received",
            "task-started",
            kind,
        ]
        assert started["timestamp"] <= ended["timestamp"]
        assert received["hostname"] == cluster.workers[0].name
    received, _, succeeded = ours[jobs[0]["task_id"]]
    assert (received["name"], received["args"]) == ("tests.jobs_app.brief", "('a',)")
    assert succeeded["result"] == "'result of a'"
    assert 0 < succeeded["runtime"] < 20
    _, _, failed = ours[jobs[1]["task_id"]]
    assert failed["exception"] == "RuntimeError('as told')"
    assert "in brief" in failed["traceback"]
