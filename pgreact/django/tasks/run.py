"""One run of a task of ``django.tasks`` in a Celery worker: call it, send the signals, keep its result.

A receiver of a signal that raises is logged by Django and does not fail the task. A result that cannot be
kept is logged (``result.lost``, logger ``pgreact.worker``), and the job ends as it would.
"""

import logging
import os
from collections.abc import Mapping
from traceback import format_exception
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from pgreact.broker.json_writer import write
from pgreact.broker.message_headers import AGAIN, ATTEMPT, JOB, parse_count
from pgreact.django import conf
from pgreact.django.tasks.backend import Backend
from pgreact.django.tasks.call import TaskCall
from pgreact.django.tasks.interface import (
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from pgreact.django.tasks.result import UNKNOWN_WORKER, find_result, result_id
from pgreact.errors import PgreactError
from pgreact.postgres.queries import query
from pgreact.worker.headers import claim_of, header, id_header
from pgreact.worker.run import storable, worker_name

_TRACEBACK_SIZE = 65_536  # bytes
_VALUE_SIZE = 1_048_576  # bytes of a return value, as of the arguments of a job

_log = logging.getLogger("pgreact.worker")


def run(request: Any, path: str, args: list[Any], kwargs: dict[str, Any], variant: Mapping[str, Any]) -> None:
    """Run the task of a job's message.

    Args:
        request: Celery's.
        path: As in the job's arguments, with the other parameters; see :class:`TaskCall`.
        args: Likewise.
        kwargs: Likewise.
        variant: Likewise.

    Raises:
        PgreactError: The message is of no job.
        Exception: What the task raised, or that its value is not JSON; then the attempt has failed.
    """
    job, claim = id_header(request, JOB), claim_of(request)
    if job is None or claim is None:
        raise PgreactError(f"{path} was not sent as a job: call its enqueue()")
    call = TaskCall.read(path, args, kwargs, variant)
    task = call.task()
    backend = task_backends[call.backend]
    if not isinstance(backend, Backend):
        raise PgreactError(
            f'{path}: the backend "{call.backend}" in TASKS is not {Backend.__module__}.Backend'
        )
    name = result_id(job, str(request.id))
    # a task that asks for the context gets all that is known, by one more statement
    result = find_result(name) if task.takes_context else _begun(name, task, call, request)
    keep = {"job": job, "claim": claim}
    task_started.send_robust(type(backend), task_result=result)
    try:
        context = (TaskContext(task_result=result),) if task.takes_context else ()
        value = normalize_json(task.call(*context, *call.args, **call.kwargs))
        text = write(value, "the return value")
        if len(text) > _VALUE_SIZE:
            raise ValueError(f"the return value takes {len(text)} bytes as JSON; the limit is 1 MiB")
    except (Ignore, Reject, Retry):  # Celery's words for "this message is no failure"
        raise
    except Exception as error:
        kind = type(error)
        failure = TaskError(
            exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
            traceback=storable("".join(format_exception(error)), _TRACEBACK_SIZE),
        )
        described = {"class": failure.exception_class_path, "traceback": failure.traceback}
        _store(backend, result, value=None, error=write(described, "error"), **keep)
        if not header(request, AGAIN):  # the last attempt
            _finish(result, TaskResultStatus.FAILED)
            result.errors.append(failure)
            task_finished.send_robust(type(backend), task_result=result)
        raise
    _store(backend, result, value=text, error=None, **keep)
    _finish(result, TaskResultStatus.SUCCESSFUL)
    object.__setattr__(result, "_return_value", value)
    task_finished.send_robust(type(backend), task_result=result)


def _begun(name: str, task: "Task[..., Any]", call: TaskCall, request: Any) -> "TaskResult[..., Any]":
    """Return what the message says of the result of a task that begins."""
    moment = timezone.now()
    before = parse_count(header(request, ATTEMPT) or 1) - 1  # earlier attempts
    return TaskResult(
        task=task,
        id=name,
        status=TaskResultStatus.RUNNING,
        enqueued_at=None,
        started_at=moment,
        finished_at=None,
        last_attempted_at=moment,
        args=call.args,
        kwargs=call.kwargs,
        backend=call.backend,
        errors=[],
        worker_ids=[UNKNOWN_WORKER] * before + [worker_name(request.hostname, os.getpid())],
    )


def _finish(result: "TaskResult[..., Any]", status: TaskResultStatus) -> None:
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "status", status)


def _store(backend: Backend, result: "TaskResult[..., Any]", **values: Any) -> None:
    """Keep a result. The task has run, so the job goes on as it ended, even if this fails."""
    if backend.retention is None:
        return
    values["retention"] = backend.retention.total_seconds()
    connection = connections[conf.alias()]
    try:
        try:
            _execute(connection, values)
        except (
            OperationalError,
            InterfaceError,
        ):  # the task may have left a connection that PostgreSQL closed
            connection.close()
            _execute(connection, values)
    except Exception as error:  # noqa: BLE001 - whatever it is, the task has run
        _log.warning("result.lost: %s, task %s: %s", result.task.module_path, result.id, error)


def _execute(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query("store_result"), values)
