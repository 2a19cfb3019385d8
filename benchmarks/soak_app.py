"""The Celery application of the soak; each run of a task writes a row to a database without faults."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, ParamSpec

import psycopg
from celery import Celery, current_task, signals

import pgreact
from benchmarks.soak_names import BEAT_ENTRY, BUSY
from tests.hostile import PINNED

P = ParamSpec("P")

app = Celery("soak_app", broker=os.environ["SOAK_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_default_queue=BUSY,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    beat_schedule={BEAT_ENTRY: {"task": "soak.tick", "schedule": 1.0}},
)
pgreact.setup(app, dsn=os.environ["SOAK_DSN"])

_records: "psycopg.Connection[tuple[Any, ...]] | None" = None


@signals.worker_process_init.connect
def _connect(**_: Any) -> None:
    global _records  # noqa: PLW0603 - one connection for each process of the pool
    _records = psycopg.connect(os.environ["SOAK_RECORDS"], autocommit=True, options=PINNED)


def recorded(body: Callable[P, None]) -> Callable[P, None]:
    """Record start and end of each run; a failed or killed run has no end."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        assert _records is not None
        task = current_task
        row = _records.execute(
            "insert into run (task, number, job, attempt, task_id, occurrence, pid) "
            "values (%s, %s, %s, %s, %s, %s, %s) returning id",
            (
                task.name,
                args[0] if args else None,
                _header("pgreact_job"),
                _header("pgreact_attempt"),
                _header("pgreact_claim")
                or task.request.id,  # an attempt may have many messages, but has one claim
                _header("pgreact_occurrence"),
                os.getpid(),
            ),
        ).fetchone()
        body(*args, **kwargs)
        _records.execute("update run set ended = clock_timestamp() where id = %s", row)

    return run


@app.task(name="soak.work")
@recorded
def work(_number: int, seconds: float) -> None:
    """Sleep for a while, as a job."""
    time.sleep(seconds)


@app.task(name="soak.shaky")
@recorded
def shaky(number: int) -> None:
    """Fail in the first attempt."""
    if int(_header("pgreact_attempt")) == 1:
        raise RuntimeError(f"job {number} fails at its first attempt")


@app.task(name="soak.changed")
@recorded
def changed(**_: Any) -> None:
    """Do nothing, as an outbox's job."""


@app.task(name="soak.tick")
@recorded
def tick() -> None:
    """Do nothing, as an occurrence of a schedule."""


@app.task(name="soak.woken")
@recorded
def woken() -> None:
    """Do nothing, as a dispatch task."""


@app.task(name="soak.flown")
@recorded
def flown() -> None:
    """Sleep for a while, as the dispatch task of a route with ``single_flight = "run"``."""
    time.sleep(0.02)


def _header(name: str) -> Any:
    request = current_task.request
    value = getattr(request, name, None)
    return (request.headers or {}).get(name) if value is None else value
