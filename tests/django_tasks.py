"""Tasks of ``django.tasks``, or of its backport, for the tests."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection, transaction

from pgreact.django import conf
from pgreact.django.tasks.interface import NAME, TaskContext
from tests import django_project

if NAME == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task  # type: ignore[no-redef]


django_project.setup()  # the decorator asks the settings; in a worker these are its own


class Unusual(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, message: str, lock: Any) -> None:
        super().__init__(message, lock)


def plain() -> None:
    """A function that is no task."""


@task
def add(a: int, b: int) -> int:
    """Return a sum."""
    return a + b


@task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return the arguments."""
    return [list(args), kwargs]


@task
async def add_async(a: int, b: int) -> int:
    """Return a sum, from a coroutine."""
    return a + b


@task(takes_context=True)
def tell(context: TaskContext, note: str) -> dict[str, Any]:
    """Return what the context says."""
    result = context.task_result
    known = [error.exception_class_path for error in result.errors]
    if context.attempt == 1 and note == "fail once":
        raise KeyError(note)
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": str(result.status),
        "errors": known,
        "note": note,
        "enqueued_at": result.enqueued_at and result.enqueued_at.isoformat(),
    }


@task
def fail(message: str) -> None:
    """Raise."""
    raise Unusual(message, threading.Lock())


@task
def return_a_set() -> Any:
    """Return what is not JSON."""
    return {1, 2}


@task
def return_much(size: int) -> str:
    """Return a long text."""
    return "x" * size


@task(takes_context=True)
def fail_once(context: TaskContext) -> int:
    """Raise at the first attempt; return the number of the second."""
    if context.attempt == 1:
        raise ValueError("not yet")
    return context.attempt


@task(takes_context=True)
def die_once(context: TaskContext) -> int:
    """Kill the process at the first attempt; return the number of the second."""
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@task
def lose_connection() -> str:
    """Return after PostgreSQL has ended the connection of the task."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with psycopg.connect(conf.dsn()) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [pid])
    return "done"


@task
def query() -> int:
    """Use the database in a transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select 42")
        return int(cursor.fetchone()[0])


@task
def wait_for(path: str) -> str:
    """Return when a file exists."""
    deadline = time.monotonic() + 20
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return "seen"
