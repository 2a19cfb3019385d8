"""The Celery application whose worker runs jobs of the queue and plain Celery tasks."""

import functools
import os
import time
from typing import Any

import psycopg
from celery import Celery, current_task

import pgreact
from benchmarks import bare_queue
from benchmarks.journal import JournalWriter
from benchmarks.marks import MarkWriter
from pgreact.broker.message_headers import CLAIM

app = Celery("queue_app", broker=os.environ["BENCH_BROKER"])
app.conf.task_ignore_result = True
app.conf.broker_transport_options = (
    {"confirm_publish": True} if os.environ["BENCH_BROKER"].startswith("amqp") else {}
)
pgreact.setup(app, dsn=os.environ["BENCH_DSN"])
_marks = MarkWriter()
_journal = JournalWriter()


@app.task(name="bench.start")
def start(number: int) -> None:
    """Report the start."""
    _marks.began(number)


@functools.cache
def _connection() -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect, in the process that runs the task."""
    return psycopg.connect(os.environ["BENCH_DSN"], autocommit=True)


@app.task(name="bench.bare")
def bare(job: int, number: int) -> None:
    """Take a job of the bare side, and report the start."""
    if _connection().execute(bare_queue.START, (job,)).fetchone() is not None:
        _marks.began(number)


@app.task(name="bench.noop")
def noop(**_ignored: object) -> None:
    """Report the end only."""
    _marks.ended()


@app.task(name="bench.short")
def short(number: int) -> None:
    """Last 5 ms."""
    _journal.began(number)
    time.sleep(0.005)
    _marks.ended()


@app.task(name="bench.long")
def long(number: int) -> None:
    """Last a second."""
    _journal.began(number)
    time.sleep(1)
    _marks.ended()


@app.task(name="bench.recorded")
def recorded(number: int) -> None:
    """Record begin and end of the attempt, half a millisecond apart, so that a kill cuts some off."""
    request = current_task.request
    claim = getattr(request, CLAIM, None) or (request.headers or {}).get(CLAIM)
    _journal.began(number, claim)
    time.sleep(0.0005)
    _marks.ended()
    _journal.ended(number, claim)
