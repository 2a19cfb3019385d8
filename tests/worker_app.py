"""The Celery application of the tests' workers: each run inserts a row and waits for a gate."""

import os
from typing import Any

import psycopg
from celery import Celery, Task

import pgreact
from tests.hostile import PINNED

GATE = 7001  # an advisory lock: runs wait while a test holds it
DSN = os.environ.get("TASK_DSN", "")

app = Celery("flown", broker=os.environ.get("TASK_BROKER"))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
)
pgreact.setup(app)


def work(name: str, task_id: str | None, *, fail: bool = False) -> None:
    """Record the start of a body, wait for the gate, record the end."""
    with psycopg.connect(DSN, autocommit=True, options=PINNED) as connection:
        number = connection.execute(
            "insert into runs (name, task_id, pid) values (%s, %s, %s) returning id",
            (name, task_id, os.getpid()),
        ).fetchone()
        connection.execute("select pg_advisory_lock_shared(%s)", (GATE,))
        if fail:
            raise RuntimeError("as told")
        connection.execute("update runs set ended = clock_timestamp() where id = %s", number)


@app.task(bind=True)
def plain(self: "Task[Any, Any]", name: str = "plain") -> None:
    """A bound task."""
    work(name, self.request.id)


@app.task
def failing() -> None:
    """A task that fails."""
    work("failing", None, fail=True)


@app.task(autoretry_for=(RuntimeError,), retry_kwargs={"countdown": 0, "max_retries": 1}, bind=True)
def trying(self: "Task[Any, Any]") -> None:
    """A task that fails at first."""
    work("trying", self.request.id, fail=self.request.retries == 0)


class Wrapping(Task):  # type: ignore[type-arg]
    """A base class that wraps each run."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, then insert a row."""
        result = super().__call__(*args, **kwargs)
        work("around", self.request.id)
        return result


@app.task(base=Wrapping, bind=True)
def wrapped(self: "Task[Any, Any]") -> None:
    """A task with a class of its own."""
    work("wrapped", self.request.id)


class Classical(Task):  # type: ignore[type-arg]
    """A task that is a class."""

    name = "tests.worker_app.classical"

    def run(self) -> None:
        """Run the task."""
        work("classical", self.request.id)


app.register_task(Classical())


@app.task(bind=True)
@pgreact.single_flight("dispatch")
def decorated(self: "Task[Any, Any]") -> None:
    """A task guarded by name."""
    work("decorated", self.request.id)


@app.task
@pgreact.single_flight("dispach")
def misspelt() -> None:
    """A task guarded by a missing route."""
    work("misspelt", None)
