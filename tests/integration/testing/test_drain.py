"""Jobs are run in the transaction of a test, as the daemon and a worker run them."""

import datetime
from typing import Any

import psycopg
import pytest
from celery import Celery, chain, chord, group

import pgreact
from pgreact.errors import PgreactError
from pgreact.testing import DrainedTask, assert_enqueued, drain, enqueued, freeze
from pgreact.testing.draining import JobDied
from pgreact.worker.database import databases
from tests import testing_app as tasks

Connection = "psycopg.Connection[tuple[Any, ...]]"
MINUTE = datetime.timedelta(minutes=1)


def written(connection: Any) -> list[str]:
    return [text for (text,) in connection.execute("select text from public.written order by id")]


def outcomes(ran: list[DrainedTask]) -> list[str]:
    return [one.outcome for one in ran]


def dead(connection: Any) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = connection.execute(
        "select id, outcome from pgreact.dead order by id"
    ).fetchall()
    return found


def test_a_job_runs_and_its_result_and_effects_are_seen(connection: Any) -> None:
    job = pgreact.enqueue(connection, tasks.note, ["hello"])
    [ran] = drain()
    assert (ran.job, ran.task, ran.task_id, ran.outcome, ran.result) == (
        job, "testing.note", job.task_id, "done", "HELLO",
    )  # fmt: skip
    assert tasks.app.AsyncResult(job.task_id).get(timeout=1) == "HELLO"
    assert written(connection) == ["hello"]
    assert enqueued() == []
    assert drain() == []


def test_a_rollback_leaves_nothing(prepared: Any, connection: Any) -> None:
    pgreact.enqueue(connection, tasks.note, ["gone"])
    drain()
    connection.rollback()
    assert enqueued() == [] == written(connection)


def test_a_call_outside_a_transaction_stays_in_that_of_the_test(prepared: Any, connection: Any) -> None:
    app = Celery("tests.outside", broker="redis://127.0.0.1:1/0", set_as_current=False)
    pgreact.setup(app, prepared.dsn, transactional=lambda: None)

    @app.task(name="testing.inner", shared=False)
    def inner() -> str:
        return "inner"

    @app.task(name="testing.outer", shared=False)
    def outer() -> None:
        inner.delay()

    pgreact.enqueue(connection, outer)
    ran = drain(app=app)
    assert [(one.task, one.job is not None, one.outcome) for one in ran] == [
        ("testing.outer", True, "done"),
        ("testing.inner", True, "done"),
    ]
    connection.rollback()
    assert enqueued() == []


def test_jobs_that_tasks_enqueue_run_in_the_same_drain(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.enqueues, [3])
    assert outcomes(drain()) == ["done"] * 4
    assert written(connection) == ["depth 3", "depth 2", "depth 1", "depth 0"]


def test_a_task_without_end_is_an_error_and_a_limit_is_not(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.enqueues, [5])
    assert len(drain(limit=2)) == 2
    assert len(enqueued(tasks.enqueues)) == 1


def test_the_request_is_that_of_a_worker(connection: Any) -> None:
    job = pgreact.enqueue(connection, tasks.request, options={"headers": {"tenant": "a"}, "queue": "urgent"})
    [ran] = drain()
    assert ran.result == {
        "id": job.task_id, "retries": 0, "eager": False, "direct": False, "routing_key": "urgent",
        "hostname": ran.result["hostname"], "current": "testing.request", "headers": {"tenant": "a"},
    }  # fmt: skip
    assert ran.result["hostname"].startswith("pgreact.testing@")


def test_a_failure_is_raised_once_the_job_is_dead_and_its_effects_are_undone(connection: Any) -> None:
    job = pgreact.enqueue(connection, tasks.fail, ["broken"])
    with pytest.raises(ValueError, match="broken") as caught:
        drain()
    assert caught.traceback[-1].name == "fail"
    assert dead(connection) == [(job, "failed")]
    assert written(connection) == []


def test_without_raise_errors_the_failure_is_in_the_result(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.fail)
    pgreact.enqueue(connection, tasks.note, ["after"])
    failed, done = drain(raise_errors=False)
    assert (failed.outcome, type(failed.error), done.outcome) == ("dead", ValueError, "done")


def test_without_atomic_what_a_task_wrote_stays_unless_its_sql_failed(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.fail, ["kept"])
    pgreact.enqueue(connection, tasks.fail_in_sql)
    ran = drain(raise_errors=False, atomic=False)
    assert [type(one.error) for one in ran] == [ValueError, psycopg.errors.DivisionByZero]
    assert written(connection) == ["kept"]
    assert len(dead(connection)) == 2


def test_a_failed_statement_leaves_the_transaction_of_the_test_usable(connection: Any) -> None:
    job = pgreact.enqueue(connection, tasks.fail_in_sql)
    with pytest.raises(psycopg.errors.DivisionByZero):
        drain()
    assert written(connection) == []
    assert dead(connection) == [(job, "failed")]


def test_attempts_follow_after_their_backoff(connection: Any) -> None:
    with freeze("2026-01-01T00:00Z") as clock:
        job = pgreact.enqueue(connection, tasks.fail, max_attempts=3, backoff=60)
        assert outcomes(drain()) == ["failed"]
        assert outcomes(drain()) == []
        assert_enqueued(tasks.fail, attempt=1, run_at=MINUTE, state="delayed")
        clock.move(MINUTE)
        assert outcomes(drain()) == ["failed"]
        assert_enqueued(tasks.fail, attempt=2, run_at=2 * MINUTE)
        with pytest.raises(ValueError, match="failed"):
            drain(until=datetime.timedelta(hours=1))
        assert clock.now == datetime.datetime(2026, 1, 1, 0, 3, tzinfo=datetime.UTC)
    assert dead(connection) == [(job, "failed")]


def test_retries_of_celery_wait_in_the_queue(connection: Any) -> None:
    with freeze() as clock:
        job = pgreact.enqueue(connection, tasks.retried, [2])
        [first] = drain()
        assert first.outcome == "retried"
        assert_enqueued(tasks.retried, id=job, state="delayed", run_at=MINUTE)
        assert outcomes(drain()) == []
        begun = clock.now
        ran = drain(until=datetime.timedelta(hours=1))
        assert outcomes(ran) == ["retried", "done"]
        assert ran[-1].result == "at last"
        assert clock.now == begun + datetime.timedelta(hours=1)
    assert {one.job for one in [first, *ran]} == {job}


def test_exhausted_retries_raise_the_tasks_error(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.retried, [9], {"countdown": 0})
    with pytest.raises(RuntimeError, match="not yet"):
        drain()


def test_autoretry_waits_by_its_backoff(connection: Any) -> None:
    with freeze():
        pgreact.enqueue(connection, tasks.flaky)
        assert outcomes(drain()) == ["retried"]
        assert_enqueued(tasks.flaky, run_at=datetime.timedelta(seconds=10))
        assert outcomes(drain(until=MINUTE)) == ["done"]


def test_lanes_and_keys_are_respected(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.note, ["paused"], lane="stopped")
    for place in range(3):
        pgreact.enqueue(connection, tasks.note, [f"in order {place}"], lane="slow", key="k", priority=place)
    pgreact.enqueue(connection, tasks.fail, ["first of its key"], key="other", max_attempts=2)
    pgreact.enqueue(connection, tasks.note, ["behind it"], key="other")
    ran = drain()
    assert written(connection) == ["in order 0", "in order 1", "in order 2"]
    assert outcomes(ran).count("failed") == 1
    assert [job.args for job in enqueued(lane="stopped")] == [["paused"]]
    assert [(job.args, job.state) for job in enqueued(key="other")] == [
        (["first of its key"], "delayed"),
        (["behind it"], "blocked"),
    ]


def test_the_rate_of_a_lane_holds_while_the_clock_stands_still(connection: Any) -> None:
    connection.execute("insert into pgreact.lane (name, rate, burst) values ('rated', 1, 2)")
    with freeze():
        for place in range(4):
            pgreact.enqueue(connection, tasks.note, [str(place)], lane="rated")
        assert len(drain()) == 2
        for _ in range(2):
            assert len(drain(until=datetime.timedelta(seconds=1.1))) == 1


def test_what_tasks_send_is_run_and_reaches_no_broker(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.sends)
    ran = drain()
    assert [(one.task, one.job is None, one.outcome) for one in ran] == [
        ("testing.sends", False, "done"),
        ("testing.note", True, "done"),
    ]
    assert written(connection) == ["sent"]


def test_a_countdown_counts_by_the_databases_clock(connection: Any) -> None:
    with freeze():
        pgreact.enqueue(connection, tasks.sends, [600])
        assert len(drain()) == 1
    with freeze():
        pgreact.enqueue(connection, tasks.sends, [600])
        assert [one.task for one in drain(until=11 * MINUTE)] == ["testing.sends", "testing.note"]


def test_canvases_links_and_replacements_go_on(connection: Any) -> None:
    pgreact.enqueue(connection, chain(tasks.note.s("a"), tasks.chained.s("b"), app=tasks.app))
    pgreact.enqueue(
        connection,
        chord(group(tasks.double.s(1), tasks.double.s(2), app=tasks.app), tasks.collect.s(), app=tasks.app),
    )
    pgreact.enqueue(connection, tasks.note, ["linked"], options={"link": tasks.chained.s("after")})
    pgreact.enqueue(connection, tasks.fail, options={"link_error": tasks.note.si("told")})
    pgreact.enqueue(connection, tasks.replaced)
    ran = drain(raise_errors=False)
    assert {*written(connection)} == {"a", "A b", "sum 6", "linked", "LINKED after", "told", "in its place"}
    assert [one.outcome for one in ran if one.task == "testing.replaced"] == ["replaced"]
    assert enqueued() == []


def test_a_job_that_cannot_run_is_dead_and_told(connection: Any) -> None:
    job = pgreact.enqueue(connection, "testing.missing")
    with pytest.raises(JobDied, match=r'no task "testing.missing"'):
        drain()
    other = pgreact.enqueue(connection, "testing.note", kwargs={"unknown": 1})
    with pytest.raises(TypeError, match="unknown"):
        drain()
    assert dead(connection) == [(job, "invalid"), (other, "invalid")]


def test_a_task_that_ends_its_process_is_lost_and_repeated(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.leave, max_lost=1)
    ran = drain(raise_errors=False)
    assert outcomes(ran) == ["failed", "dead"]
    assert [outcome for _, outcome in dead(connection)] == ["lost"]


def test_until_needs_a_frozen_clock(connection: Any) -> None:
    with pytest.raises(PgreactError, match="freeze"):
        drain(until=MINUTE)


def test_a_drain_in_an_except_block_keeps_what_tasks_write(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.note, ["kept"])
    try:
        raise LookupError
    except LookupError:
        assert outcomes(drain()) == ["done"]
    assert written(connection) == ["kept"]


def test_an_exception_that_is_no_error_passes_through(connection: Any) -> None:
    sender = tasks.app.amqp.send_task_message
    pgreact.enqueue(connection, tasks.interrupted)
    with pytest.raises(KeyboardInterrupt):
        drain()
    assert [job.state for job in enqueued()] == ["ready"]
    assert tasks.app.amqp.send_task_message is sender
    assert databases[tasks.app].inline is None


def test_a_message_that_a_task_sent_fails_as_loudly_as_a_job(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.sends_failing)
    with pytest.raises(ValueError, match="failed"):
        drain()
    assert written(connection) == []
