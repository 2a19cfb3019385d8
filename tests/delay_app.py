"""The Celery application of the tests of ``delay()``: its calls are jobs of the connection in ``current``."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import psycopg
from celery import Celery, Task

import pgreact
from tests.hostile import PINNED

DSN = os.environ.get("TASK_DSN", "")

current: "ContextVar[psycopg.Connection[Any] | None]" = ContextVar("current", default=None)

app = Celery("delayed", broker=os.environ.get("TASK_BROKER"), backend=os.environ.get("TASK_BROKER"))
app.conf.update(
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    result_expires=600,
)
pgreact.setup(app, transactional=current.get)


@contextlib.contextmanager
def transaction(dsn: str) -> Iterator["psycopg.Connection[Any]"]:
    """Open a transaction that calls of tasks belong to."""
    with psycopg.connect(dsn, options=PINNED) as connection:
        token = current.set(connection)
        try:
            yield connection
        finally:
            current.reset(token)


@app.task
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """Return the sum of many."""
    return sum(numbers)


@app.task
def fail(*_: Any) -> None:
    """Fail."""
    raise RuntimeError("as told")


@app.task(bind=True)
def describe(self: "Task[Any, Any]", *_: Any) -> dict[str, Any]:
    """Return what the task knows of its message."""
    request = self.request
    headers = request.headers or {}
    return {
        "job": request.get("pgreact_job") or headers.get("pgreact_job"),
        "id": request.id,
        "root": request.root_id,
        "parent": request.parent_id,
        "tenant": request.get("tenant") or headers.get("tenant"),
        "shadow": request.shadow,
        "retries": request.retries,
        "timelimit": request.timelimit,
    }


@app.task(transactional=False)
def opted_out() -> None:
    """A task that is always a message."""


@app.task(bind=True)
def calling(self: "Task[Any, Any]", how: str) -> str:
    """A task that calls another one: in a transaction that commits or rolls back, or outside one."""
    if how == "outside":
        return str(describe.delay().id)
    with transaction(DSN) as connection:
        found = str(describe.delay().id)
        if how == "rollback":
            connection.rollback()
    return found


@app.task(bind=True)
def retrying(self: "Task[Any, Any]") -> dict[str, Any]:
    """A task that asks for a retry in a transaction, which rolls back."""
    if self.request.retries == 0:
        with transaction(DSN):
            raise self.retry(countdown=0)
    return {"retries": self.request.retries}


@app.task(bind=True)
def replaced(self: "Task[Any, Any]") -> None:
    """A task that is replaced in a transaction, which rolls back."""
    with transaction(DSN):
        raise self.replace(describe.s())


@app.task(bind=True)
def starting(self: "Task[Any, Any]") -> Any:
    """A task that starts a chain in a transaction."""
    with transaction(DSN):
        return (add.s(1, 1) | add.s(10)).apply_async().id


tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


class OfTenant(Task):  # type: ignore[type-arg]
    """A base class that adds a header from the context of the call."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Add the tenant's header."""
        options["headers"] = {**(options.get("headers") or {}), "tenant": tenant.get()}
        return super().apply_async(args, kwargs, **options)


@app.task(base=OfTenant, bind=True)
def of_tenant(self: "Task[Any, Any]") -> Any:
    """A task with a class of its own, which retries once; return its tenant."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return self.request.get("tenant") or (self.request.headers or {}).get("tenant")
