"""Tasks of ``django.tasks`` on real Celery workers, from ``enqueue`` to ``get_result``."""

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.django.tasks.interface import TaskResult, TaskResultStatus
from tests import django_project, django_tasks
from tests.command import pgreact as pgreact_command
from tests.harness import Daemon, Database, eventually
from tests.integration.django.conftest import a_shop
from tests.worker import ROOT, Worker

BACKEND = "pgreact.django.tasks.Backend"
THREADS = f"q_{uuid4().hex[:12]}"  # the Celery queue of a worker with threads
TASKS: dict[str, Any] = {
    "default": {"BACKEND": BACKEND},
    "patient": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": 2, "backoff": 0}},
    "without results": {"BACKEND": BACKEND, "OPTIONS": {"retention": None}},
    "too late": {"BACKEND": BACKEND, "OPTIONS": {"expires": -1}},
    "threads": {"BACKEND": BACKEND, "OPTIONS": {"options": {"queue": THREADS}}},
}


def environment(database: Database, queue: str, broker: str, **options: Any) -> dict[str, str]:
    """Return the variables of a process of the project ``tests.django_settings``."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.django_settings",
        "PYTHONPATH": str(ROOT),
        "TASK_BROKER": broker,
        "TASK_QUEUE": queue,
        "TASK_TASKS": json.dumps(TASKS),
        "TASK_DATABASES": json.dumps({"default": django_project.entry(database.dsn, **options)}),
        "PGREACT_APP": "tests.django_app",
    }


@pytest.fixture(scope="module")
def shop(
    postgres: EmbeddedPostgres, migrated: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, dict[str, Any]]]:
    """A database whose jobs a worker with a connection pool runs, and the variables of its processes."""
    queue = f"q_{uuid4().hex[:12]}"
    with a_shop(postgres, migrated) as database, override_settings(TASKS=TASKS):
        environ = environment(
            database,
            queue,
            redis_url,
            OPTIONS={"application_name": "tests", "pool": {"min_size": 1, "max_size": 3}},
        )
        worker = Worker(redis_url, queue, "prefork", 2, environ, "tests.django_app")
        daemon = Daemon(database.dsn, redis_url, cwd=tmp_path_factory.mktemp("daemon"), environ=environ)
        try:
            daemon.ready()
            worker.wait_for_log(" ready.", 60)
            yield database, {**environ, "worker": worker}
        finally:
            worker.stop()
            daemon.kill()


def ended(result: "TaskResult[Any, Any]") -> "TaskResult[Any, Any]":
    """Wait until a task has ended; return its result."""

    def finished() -> bool:
        result.refresh()
        return result.is_finished

    eventually(finished, f"{result.task.module_path} has ended")
    return result


def test_a_task_returns_its_value(shop: Any) -> None:
    result = ended(django_tasks.add.enqueue(1, b=2))
    assert (result.status, result.return_value, result.errors) == (TaskResultStatus.SUCCESSFUL, 3, [])
    assert result.attempts == 1
    assert result.worker_ids[0].split()[0].endswith("@t")
    assert result.enqueued_at is not None
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.enqueued_at < result.started_at == result.last_attempted_at < result.finished_at
    assert django_tasks.add.get_result(result.id) == result


def test_a_coroutine_runs(shop: Any) -> None:
    assert ended(django_tasks.add_async.enqueue(1, 2)).return_value == 3


def test_arguments_arrive_as_json(shop: Any) -> None:
    value = {"nested": [1.5, None, True, "ü", {"__type__": "x"}]}
    assert ended(django_tasks.echo.enqueue((1, "two"), key=value)).return_value == [
        [[1, "two"]],
        {"key": value},
    ]


def test_the_context_is_that_of_the_run(shop: Any) -> None:
    for note, attempt, errors in (("hello", 1, []), ("fail once", 2, ["builtins.KeyError"])):
        result = ended(django_tasks.tell.using(backend="patient").enqueue(note))
        assert result.enqueued_at is not None
        assert result.return_value == {
            "id": result.id,
            "attempt": attempt,
            "status": "RUNNING",
            "errors": errors,
            "note": note,
            "enqueued_at": result.enqueued_at.isoformat(),
        }


def test_a_failure_has_its_class_and_traceback(shop: Any) -> None:
    result = ended(django_tasks.fail.enqueue("no luck"))
    assert result.status == TaskResultStatus.FAILED
    (error,) = result.errors
    assert error.exception_class is django_tasks.Unusual
    assert "in fail" in error.traceback
    assert "no luck" in error.traceback
    assert result.attempts == 1
    assert result.finished_at is not None
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


@pytest.mark.parametrize(
    ("task", "args", "kind"),
    [(django_tasks.return_a_set, (), TypeError), (django_tasks.return_much, (2**21,), ValueError)],
)
def test_a_value_that_cannot_be_stored_is_a_failure(shop: Any, task: Any, args: Any, kind: type[Any]) -> None:
    (error,) = ended(task.enqueue(*args)).errors
    assert error.exception_class is kind


def test_a_wrong_call_is_a_failure(shop: Any) -> None:
    (error,) = ended(django_tasks.add.enqueue(1)).errors
    assert error.exception_class is TypeError
    assert "missing 1 required positional argument: 'b'" in error.traceback


def test_a_failed_attempt_is_repeated_as_the_options_say(shop: Any) -> None:
    result = ended(django_tasks.fail_once.using(backend="patient").enqueue())
    assert (result.return_value, result.attempts) == (2, 2)
    assert [error.exception_class for error in result.errors] == [ValueError]
    assert result.started_at is not None
    assert result.last_attempted_at is not None
    assert result.started_at < result.last_attempted_at


def test_the_signals_of_each_attempt_and_of_the_end_are_sent(shop: Any) -> None:
    _, environ = shop
    result = ended(django_tasks.fail_once.using(backend="patient").enqueue())
    environ["worker"].wait_for_log(f"task_finished {result.id} SUCCESSFUL 2")
    log = "\n".join(environ["worker"].lines)
    assert re.findall(rf"(task_\w+) {re.escape(result.id)} (\w+) (\d)", log) == [
        ("task_started", "RUNNING", "1"),
        ("task_started", "RUNNING", "2"),
        ("task_finished", "SUCCESSFUL", "2"),
    ]


def test_a_task_whose_worker_died_runs_again(shop: Any) -> None:
    result = ended(django_tasks.die_once.enqueue())
    assert (result.return_value, result.attempts, result.errors) == (2, 2, [])
    assert result.worker_ids[0] == "unknown"


def test_a_running_task_says_so(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "go on"
    result = django_tasks.wait_for.enqueue(str(file))

    def running() -> bool:
        result.refresh()
        return result.status == TaskResultStatus.RUNNING

    eventually(running, "it runs")
    assert (result.attempts, result.is_finished, result.finished_at) == (1, False, None)
    assert result.started_at == result.last_attempted_at is not None
    file.touch()
    assert ended(result).return_value == "seen"


def test_a_result_is_kept_though_the_connection_is_lost(shop: Any) -> None:
    assert ended(django_tasks.lose_connection.enqueue()).return_value == "done"


def test_a_path_that_is_no_task_does_not_run(shop: Any) -> None:
    database, _ = shop
    with database.connect() as connection:
        variant = {"backend": "default", "queue_name": "default", "priority": 0}
        job = pgreact.enqueue(
            connection,
            "pgreact.run_django_task",
            ["tests.django_tasks.plain", [], {}],
            variant,
            lane="default",
        )
    database.until(f"select exists (select from pgreact.dead where id = {job})")
    error = database.value(f"select error from pgreact.dead where id = {job}")
    assert "tests.django_tasks.plain is of type function, not a task: decorate it with @task" in error


def test_a_job_that_expired_is_a_failed_task(shop: Any) -> None:
    result = ended(django_tasks.add.using(backend="too late").enqueue(1, 2))
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 0)
    assert result.errors[0].exception_class is pgreact.PgreactError
    assert result.errors[0].traceback.startswith("expired: not started before it expired at")


def test_a_failure_whose_result_was_not_kept_has_the_class_that_the_job_names(shop: Any) -> None:
    database, _ = shop
    for task, kind in ((django_tasks.fail, django_tasks.Unusual), (django_tasks.add, TypeError)):
        result = ended(task.enqueue("no luck"))
        database.run(f"delete from pgreact.result where job = {result.id.partition('.')[0]}")
        result.refresh()
        assert result.errors[0].exception_class is kind
        assert "no luck" in result.errors[0].traceback or "positional" in result.errors[0].traceback


def test_a_result_that_cannot_be_kept_is_logged_and_the_job_is_done(shop: Any) -> None:
    database, environ = shop
    database.run("alter table pgreact.result rename to away")
    try:
        job = django_tasks.add.enqueue(1, 2).id.partition(".")[0]
        line = environ["worker"].wait_for_log("result.lost: tests.django_tasks.add, task ")
        assert 'relation "pgreact.result" does not exist' in line
        database.until(f"select not exists (select from pgreact.in_progress where id = {job})")
        assert not database.value(f"select exists (select from pgreact.dead where id = {job})")
    finally:
        database.run("alter table pgreact.away rename to result")


def test_without_retention_nothing_is_kept(shop: Any) -> None:
    database, _ = shop
    number = django_tasks.add.using(backend="without results").enqueue(1, 2).id.partition(".")[0]
    database.until(f"select not exists (select from pgreact.queue where id = {number})")
    database.until(f"select not exists (select from pgreact.in_progress where id = {number})")
    assert not database.value(f"select exists (select from pgreact.result where job = {number})")


def test_expired_results_go_as_others_come(shop: Any) -> None:
    database, _ = shop
    first = [ended(django_tasks.add.enqueue(1, 2)) for _ in range(2)]
    database.run("update pgreact.result set expires_at = now() - interval '1 s'")
    expired = database.value("select count(*) from pgreact.result")
    ended(django_tasks.add.enqueue(1, 2))
    assert database.value("select count(*) from pgreact.result") == expired - 2 + 1
    assert first


def test_logs_and_commands_name_the_task(shop: Any) -> None:
    database, environ = shop
    ended(django_tasks.add.enqueue(7, 2))
    environ["worker"].wait_for_log("tests.django_tasks.add[")
    result = django_tasks.add.using(run_after=timezone.now() + datetime.timedelta(days=1)).enqueue(1, 2)
    number = result.id.partition(".")[0]
    shown = pgreact_command("queue", "show", number, dsn=database.dsn).out
    assert "tests.django_tasks.add" in shown


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_pool_of_three_connections_serves_a_hundred_tasks(shop: Any, redis_url: str, pool: str) -> None:
    database, environ = shop
    if pool == "threads":
        worker = Worker(redis_url, THREADS, pool, 3, {**environ, "worker": ""}, "tests.django_app")
        worker.wait_for_log(" ready.", 60)
    try:
        task = django_tasks.query.using(backend="threads" if pool == "threads" else "default")
        with transaction.atomic():
            jobs = [int(task.enqueue().id.partition(".")[0]) for _ in range(100)]
        # a task that kept its connection would stop the others
        database.until(f"select count(*) = 100 from pgreact.result where succeeded and job >= {jobs[0]}")
        states = database.value(
            "select coalesce(array_agg(state), '{}') from pg_stat_activity "
            "where datname = current_database() and application_name = 'tests'"
        )
    finally:
        if pool == "threads":
            worker.stop()
    # two processes of the worker of the module, and one of this, have three each at most
    assert len(states) <= 9
    assert "idle in transaction" not in states
