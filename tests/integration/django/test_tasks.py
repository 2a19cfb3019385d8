"""Tasks of ``django.tasks`` as jobs: what is enqueued, refused and read; ``test_tasks_worker`` runs them."""

import asyncio
import contextlib
import datetime
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from pgreact.django import tasks as package
from pgreact.django.tasks.interface import (
    NAME,
    InvalidTask,
    Task,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from tests import django_project, django_tasks
from tests.harness import Database
from tests.worker import ROOT

BACKEND = "pgreact.django.tasks.Backend"
TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "mail", "nowhere"]},
    "patient": {
        "BACKEND": BACKEND,
        "OPTIONS": {"max_attempts": 3, "backoff": 2, "options": {"queue": "celery2"}, "retention": None},
    },
    "any queue": {"BACKEND": BACKEND, "QUEUES": []},
}


@pytest.fixture
def queue(module_shop: Database) -> Iterator[Database]:
    """An empty queue with the lane ``mail``, and our backends."""
    module_shop.run(
        "truncate pgreact.queue",
        "insert into pgreact.lane (name) values ('mail') on conflict do nothing",
    )
    with override_settings(TASKS=TASKS):
        yield module_shop


def job(database: Database, columns: str) -> Any:
    """Return columns of the only job, as a tuple or alone."""
    with database.connect() as found:
        (row,) = found.execute(f"select {columns} from pgreact.queue".encode()).fetchall()
    return row if len(row) > 1 else row[0]


def test_a_task_is_a_job_of_the_runner(queue: Database) -> None:
    result = django_tasks.add.enqueue(1, b=2)
    assert job(queue, "task, args, kwargs, lane, priority, state") == (
        "pgreact.run_django_task",
        ["tests.django_tasks.add", [1], {"b": 2}],
        {"backend": "default", "queue_name": "default", "priority": 0},
        *("default", 0, "ready"),
    )
    number, task_id = result.id.split(".")
    assert (int(number), uuid.UUID(task_id)) == job(queue, "id, task_id")
    assert job(queue, "options") == {"shadow": "tests.django_tasks.add"}


def test_a_new_result_is_ready(queue: Database) -> None:
    result = django_tasks.echo.enqueue((1, 2), key={"a": b"bytes"})
    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.READY, False, 0)
    assert (result.args, result.kwargs) == ([[1, 2]], {"key": {"a": "bytes"}})
    assert (result.task, result.backend) == (django_tasks.echo, "default")
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids) == ([], [])
    assert result.enqueued_at is not None
    assert timezone.is_aware(result.enqueued_at)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


def test_the_stored_result_is_that_which_enqueue_returned(queue: Database) -> None:
    later = timezone.now() + datetime.timedelta(hours=1)
    for task in (
        django_tasks.echo,
        django_tasks.echo.using(priority=7, queue_name="mail", run_after=later),
    ):
        result = task.enqueue((1, 2), key="ü")
        stored = task.get_result(result.id)
        assert stored.task == result.task == task
        for name in ("id", "status", "args", "kwargs", "backend", "errors", "worker_ids", "started_at"):
            assert getattr(stored, name) == getattr(result, name)
        assert abs(stored.enqueued_at - result.enqueued_at) < datetime.timedelta(seconds=20)
        result.refresh()
        assert result == stored


def test_async_code_enqueues_and_reads(queue: Database) -> None:
    async def view() -> None:
        result = await django_tasks.add_async.aenqueue(1, 2)
        assert (await django_tasks.add_async.aget_result(result.id)).status == TaskResultStatus.READY
        await result.arefresh()
        with pytest.raises(TaskResultDoesNotExist):
            await django_tasks.add.aget_result(f"0.{uuid.uuid4()}")

    asyncio.run(view())
    assert job(queue, "args ->> 0") == "tests.django_tasks.add_async"


def test_priority_time_and_queue_are_those_of_the_job(queue: Database) -> None:
    later = timezone.now() + datetime.timedelta(hours=1)
    django_tasks.add.using(priority=-100, run_after=later, queue_name="mail").enqueue(1, 2)
    assert job(queue, "priority, run_at, lane, state") == (-100, later, "mail", "delayed")


def test_a_time_without_zone_is_djangos_without_use_tz(queue: Database) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris"):
        result = django_tasks.add.using(run_after=datetime.datetime(2040, 1, 1, 12)).enqueue(1, 2)  # noqa: DTZ001
        stored = django_tasks.add.get_result(result.id)
        assert stored.task.run_after == datetime.datetime(2040, 1, 1, 12)  # noqa: DTZ001
        assert stored.enqueued_at is not None
        assert timezone.is_naive(stored.enqueued_at)
    assert job(queue, "run_at") == datetime.datetime(2040, 1, 1, 11, tzinfo=datetime.UTC)


def test_the_transaction_decides(queue: Database) -> None:
    class Stop(Exception):
        pass

    with transaction.atomic():
        kept = django_tasks.add.enqueue(1, 1)
        with contextlib.suppress(Stop), transaction.atomic():
            lost = django_tasks.add.enqueue(2, 2)
            assert django_tasks.add.get_result(lost.id).status == TaskResultStatus.READY
            raise Stop
        assert queue.value("select count(*) from pgreact.queue") == 0
    assert django_tasks.add.get_result(kept.id).args == [1, 1]
    with pytest.raises(TaskResultDoesNotExist):
        django_tasks.add.get_result(lost.id)


def test_an_unknown_id_has_no_result(queue: Database) -> None:
    result = django_tasks.add.enqueue(1, 2)
    number = result.id.partition(".")[0]
    for unknown in (
        "",
        "x",
        "1",
        number,
        f"{number}.{uuid.uuid4()}",
        f"{2**80}.{uuid.uuid4()}",
        f"-1.{uuid.uuid4()}",
    ):
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(unknown)


def test_the_result_of_another_task_is_refused(queue: Database) -> None:
    result = django_tasks.add.enqueue(1, 2)
    with pytest.raises(Exception, match=r"received 'tests\.django_tasks\.add'") as caught:
        django_tasks.echo.get_result(result.id)
    assert type(caught.value).__name__ == "TaskResultMismatch"


def test_a_task_that_left_the_code_has_no_result(queue: Database) -> None:
    result = django_tasks.add.enqueue(1, 2)
    for path, reason in (("tests.django_tasks.gone", "no task"), ("tests.django_tasks.plain", "not a task")):
        queue.run(f"update pgreact.queue set args = jsonb_set(args, '{{0}}', '\"{path}\"')")
        with pytest.raises(TaskResultDoesNotExist, match=reason):
            task_backends["default"].get_result(result.id)


def test_a_task_whose_queue_left_the_settings_keeps_its_result(queue: Database) -> None:
    result = django_tasks.add.using(queue_name="mail").enqueue(1, 2)
    with override_settings(TASKS={"default": {"BACKEND": BACKEND}}):
        assert django_tasks.add.get_result(result.id).status == TaskResultStatus.READY


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 101},
        {"priority": -101},
        {"priority": 0.5},
        {"queue_name": "unknown"},
        {"run_after": datetime.datetime(2040, 1, 1)},  # noqa: DTZ001
    ],
)
def test_a_call_that_does_not_fit_is_refused(queue: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask):
        django_tasks.add.using(**wrong)


def test_a_function_that_no_worker_could_import_is_refused(queue: Database) -> None:
    def local() -> None: ...

    for function in (local, lambda: None, len, print, Task):
        with pytest.raises(InvalidTask):
            Task(func=function, priority=0, backend="default", queue_name="default", run_after=None)
    with pytest.raises(InvalidTask, match="context"):
        Task(
            func=django_tasks.plain,
            priority=0,
            backend="default",
            queue_name="default",
            run_after=None,
            takes_context=True,
        )


def test_arguments_that_are_no_json_are_refused(queue: Database) -> None:
    for wrong in ({1}, object(), datetime.datetime.now(datetime.UTC)):
        with pytest.raises(TypeError):
            django_tasks.echo.enqueue(wrong)
        with pytest.raises(TypeError):
            django_tasks.echo.enqueue(key=wrong)
    for bad in ("\0", float("nan"), b"\xff"):
        with pytest.raises(ValueError, match=r"\w"):
            django_tasks.echo.enqueue(bad)
    assert queue.value("select count(*) from pgreact.queue") == 0


def test_a_queue_without_lane_is_refused_by_name(queue: Database) -> None:
    with pytest.raises(InvalidTask) as caught:
        django_tasks.add.using(queue_name="nowhere").enqueue(1, 2)
    assert str(caught.value) == (
        'tests.django_tasks.add: its queue "nowhere" is no lane: name it in PGREACT["LANES"] and migrate, or '
        "insert it into pgreact.lane"
    )


def test_an_empty_list_of_queues_allows_all(queue: Database) -> None:
    django_tasks.add.using(backend="any queue", queue_name="mail").enqueue(1, 2)
    assert job(queue, "lane, kwargs ->> 'backend'") == ("mail", "any queue")


def test_options_hold_for_all_tasks_of_the_backend(queue: Database) -> None:
    task = django_tasks.add.using(backend="patient")
    result = task.enqueue(1, 2)
    assert result.backend == "patient"
    assert job(queue, "max_attempts, backoff, options, lane") == (
        *(3, datetime.timedelta(seconds=2)),
        *({"queue": "celery2", "shadow": "tests.django_tasks.add"}, "default"),
    )
    backend = task_backends["patient"]
    assert not backend.supports_get_result
    with pytest.raises(NotImplementedError):
        backend.get_result(result.id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_atempts": 3}, 'no "max_atempts"; did you mean "max_attempts"?'),
        ({"retention": 0}, "retention is 0: give seconds, a timedelta, or None"),
        ({"retention": "1d"}, "retention is '1d'"),
    ],
)
def test_a_mistake_in_options_is_named(module_shop: Database, options: dict[str, Any], message: str) -> None:
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
        with pytest.raises(ImproperlyConfigured) as caught:
            task_backends["default"]
        assert message in str(caught.value)


def test_the_backend_says_what_it_can(queue: Database) -> None:
    backend = task_backends["default"]
    assert isinstance(backend, package.Backend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_priority
    assert backend.supports_get_result


def test_the_signal_of_an_enqueued_task_is_sent(queue: Database) -> None:
    heard: list[Any] = []

    def hear(sender: type[Any], task_result: Any, **_: Any) -> None:
        heard.append((sender, task_result))

    task_enqueued.connect(hear)
    try:
        result = django_tasks.add.enqueue(1, 2)
    finally:
        task_enqueued.disconnect(hear)
    assert heard == [(package.Backend, result)]


def checked(**settings: Any) -> list[CheckMessage]:
    """Return the messages of the default backend's checks under these settings."""
    with override_settings(TASKS=TASKS, **settings):
        return list(task_backends["default"].check())


def test_a_queue_without_lane_in_the_settings_is_a_warning(module_shop: Database) -> None:
    (warning,) = checked(PGREACT={"LANES": {"mail": {}}})
    assert (warning.id, warning.msg) == (
        "pgreact.W102",
        'TASKS["default"]: QUEUES has "nowhere", which PGREACT["LANES"] does not name.',
    )
    assert checked(PGREACT={"LANES": {"mail": {}, "nowhere": {}}}) == []


def test_without_the_app_the_check_fails(module_shop: Database) -> None:
    (error,) = checked(INSTALLED_APPS=[])
    assert (error.id, error.level) == ("pgreact.E101", 40)


def test_manage_py_check_looks_at_tasks(module_shop: Database) -> None:
    tasks = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "nowhere"]}}
    done = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.django_settings",
            "TASK_DATABASES": json.dumps({"default": django_project.entry(module_shop.dsn)}),
            "TASK_TASKS": json.dumps(tasks),
            "TASK_BROKER": "memory://",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "(pgreact.W102)" in done.stderr) == (0, True), done.stderr


@pytest.mark.skipif(NAME != "django.tasks", reason="the backport is the only package")
def test_the_backport_makes_djangos_tasks_where_both_are_installed(queue: Database) -> None:
    import django_tasks as backport

    task = backport.task(django_tasks.plain)
    assert type(task) is Task
    backport.task_backends["default"].enqueue(task, [], {})
    assert job(queue, "args ->> 0") == "tests.django_tasks.plain"


def test_the_results_of_a_test_case_are_gone_with_its_transaction(queue: Database) -> None:
    with transaction.atomic():  # as of TestCase
        result = django_tasks.add.enqueue(1, 2)
        result.refresh()
        assert result.status == TaskResultStatus.READY
        transaction.set_rollback(True)
    assert connection.in_atomic_block is False
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()
