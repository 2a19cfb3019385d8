"""The Celery application whose worker runs jobs of the queue and plain Celery tasks."""

import os

from celery import Celery

import pgreact
from benchmarks.marks import MarkWriter

app = Celery("queue_app", broker=os.environ["BENCH_BROKER"])
app.conf.task_ignore_result = True
app.conf.broker_transport_options = (
    {"confirm_publish": True} if os.environ["BENCH_BROKER"].startswith("amqp") else {}
)
pgreact.setup(app, dsn=os.environ["BENCH_DSN"])
_marks = MarkWriter()


@app.task(name="bench.start")
def start(number: int) -> None:
    """Report the start."""
    _marks.began(number)


@app.task(name="bench.noop")
def noop() -> None:
    """Report the end only."""
    _marks.ended()
