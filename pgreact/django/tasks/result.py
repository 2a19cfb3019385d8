"""Results of tasks: their ids, and what PostgreSQL says of a job as ``django.tasks`` puts it."""

import builtins
import datetime
import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.utils import timezone

from pgreact.django import conf
from pgreact.django.tasks.call import NoTask, TaskCall
from pgreact.django.tasks.interface import TaskError, TaskResult, TaskResultDoesNotExist, TaskResultStatus
from pgreact.postgres.queries import query

UNKNOWN_WORKER = "unknown"  # of lost attempts; they come first
# of a job whose task did not raise: its worker died, it expired, was revoked …
_DIED = "pgreact.errors.PgreactError"
_QUALIFIED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # a class with its module
_STATUS = {
    "ready": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "dead": TaskResultStatus.FAILED,
    "failed": TaskResultStatus.FAILED,
    "done": TaskResultStatus.SUCCESSFUL,
}
_UNSTARTED = {"expired", "unstarted", "revoked"}  # outcomes of attempts that no worker ran


def result_id(job: int, task_id: str) -> str:
    """Return the id of a result: the job's, and Celery's UUID, since ids of jobs can be guessed."""
    return f"{job}.{task_id}"


def split_id(given: str) -> tuple[int, str]:
    """Return the job's id and Celery's.

    Raises:
        TaskResultDoesNotExist: ``given`` is not of this form.
    """
    job, _, task_id = str(given).partition(".")
    try:
        if job.isascii() and job.isdigit() and int(job) < 2**63:
            return int(job), str(UUID(task_id))
    except ValueError:
        pass
    raise TaskResultDoesNotExist(given)


def find_result(given: str) -> "TaskResult[..., Any]":
    """Ask PostgreSQL for a result.

    Args:
        given: Its id.

    Raises:
        TaskResultDoesNotExist: PostgreSQL knows no such job, or the code no such task.
    """
    job, task_id = split_id(given)
    with connections[conf.alias()].cursor() as cursor:
        cursor.execute(query("job_result"), {"job": job, "task_id": task_id})
        (text,) = cursor.fetchone()
    if text is None:
        raise TaskResultDoesNotExist(given)
    try:
        return _result(given, json.loads(text))
    except NoTask as error:
        raise TaskResultDoesNotExist(f"{given}: {error}") from error


def _result(given: str, found: Mapping[str, Any]) -> "TaskResult[..., Any]":
    path, args, kwargs = found["args"]
    call = TaskCall.read(path, args, kwargs, found["kwargs"])
    state = found["state"]
    errors = [
        TaskError(exception_class_path=each["class"], traceback=each["traceback"]) for each in found["errors"]
    ]
    if state == "dead" and found["kept"] != found["attempt"]:
        errors.append(_dead(found["outcome"], found["error"] or ""))
    workers = found["workers"] + ([found["worker"]] if state == "running" else [])
    attempts = 0 if found["outcome"] in _UNSTARTED else found["attempt"]
    result: TaskResult[..., Any] = TaskResult(
        task=call.task(),
        id=given,
        status=_STATUS[state],
        enqueued_at=_time(found["enqueued_at"]),
        started_at=_time(found["started_at"]),
        finished_at=_time(found["finished_at"]),
        last_attempted_at=_time(found["last_started_at"]),
        args=call.args,
        kwargs=call.kwargs,
        backend=call.backend,
        errors=errors,
        worker_ids=[UNKNOWN_WORKER] * (attempts - len(workers)) + workers,
    )
    if state == "done":
        object.__setattr__(result, "_return_value", found["value"])
    return result


def _dead(outcome: str, text: str) -> TaskError:
    """Return the error of an attempt of which no worker has kept one, by the exception that the job names."""
    kind, _, _ = text.partition("\n")[0].partition(":")
    if outcome == "failed" and _QUALIFIED.fullmatch(kind):
        return TaskError(exception_class_path=kind, traceback=text)
    found = getattr(builtins, kind, None)
    if outcome == "failed" and isinstance(found, type) and issubclass(found, BaseException):
        return TaskError(exception_class_path=f"builtins.{kind}", traceback=text)
    return TaskError(exception_class_path=_DIED, traceback=f"{outcome}: {text}")


def _time(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    found = datetime.datetime.fromisoformat(text)
    return found.astimezone(datetime.UTC) if settings.USE_TZ else timezone.make_naive(found)
