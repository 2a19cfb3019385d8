"""The application of the soak: each run of a task leaves a row in a database that no fault reaches."""

import os
import time
from typing import Any

import psycopg
from celery import Celery, Task, signals

import pgreact
from benchmarks.soak_names import BEAT_ENTRY, BUSY
from tests.hostile import PINNED

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


class Recorded(Task):  # type: ignore[type-arg]
    """A task whose runs are recorded: when they begin and, unless they fail or are killed, when they end."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        assert _records is not None
        request = self.request
        row = _records.execute(
            "insert into run (task, number, job, attempt, task_id, occurrence, pid) "
            "values (%s, %s, %s, %s, %s, %s, %s) returning id",
            (
                self.name,
                args[0] if args else None,
                _header(request, "pgreact_job"),
                _header(request, "pgreact_attempt"),
                request.id,
                _header(request, "pgreact_occurrence"),
                os.getpid(),
            ),
        ).fetchone()
        result = super().__call__(*args, **kwargs)
        _records.execute("update run set ended = clock_timestamp() where id = %s", row)
        return result


@app.task(name="soak.work", base=Recorded)
def work(_number: int, seconds: float) -> None:
    """Take some time."""
    time.sleep(seconds)


@app.task(name="soak.shaky", base=Recorded, bind=True)
def shaky(self: "Task[Any, Any]", number: int) -> None:
    """Fail at the first attempt."""
    if int(_header(self.request, "pgreact_attempt")) == 1:
        raise RuntimeError(f"job {number} fails at its first attempt")


@app.task(name="soak.changed", base=Recorded)
def changed(**_: Any) -> None:
    """Do nothing, for a change of a table."""


@app.task(name="soak.tick", base=Recorded)
def tick() -> None:
    """Do nothing, for an occurrence of a schedule."""


@app.task(name="soak.woken", base=Recorded)
def woken() -> None:
    """Do nothing, for a dispatch."""


@app.task(name="soak.flown", base=Recorded)
def flown() -> None:
    """Take some time, for a dispatch of a route with one run at a time."""
    time.sleep(0.02)


def _header(request: Any, name: str) -> Any:
    value = getattr(request, name, None)
    return (request.headers or {}).get(name) if value is None else value
