"""The Celery application of each measured beat: its messages are counted, not sent.

Beat runs as its users run it, ``celery -A benchmarks.timetable_app beat -S …``.
"""

import os
import pickle
import signal
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import Service

from benchmarks.marks import MarkWriter
from benchmarks.timetable_counted import count_messages
from benchmarks.timetable_signs import ENTRIES, LOOP, STARTED, STORE, TICKED, TICKS

_marks = MarkWriter()
count_messages(_marks)  # of pgreact's publisher


class Counting(Celery):
    """Sends nothing."""

    def send_task(self, name: str, args: Any = None, *_: object, **__: object) -> None:  # noqa: ARG002
        """Count the message, and report its number if it has one."""
        _marks.ended()
        if args:
            _marks.began(args[0])


def _tick(service: Service) -> None:
    _marks.began(TICKED)
    for _ in range(TICKS):
        service.scheduler.tick()
    _marks.began(TICKED)


def _start(service: Service, *arguments: Any, **options: Any) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: _tick(service))
    _marks.began(STARTED)
    _service_start(service, *arguments, **options)


_service_start = Service.start
Service.start = _start

app = Counting("timetable_app", broker=os.environ["BENCH_BROKER"])
app.conf.result_expires = None  # no entry of Celery's own
app.conf.beat_max_loop_interval = float(os.environ.get(LOOP, "0"))
app.conf.redbeat_redis_url = os.environ.get(STORE, "")
if ENTRIES in os.environ:
    app.conf.beat_schedule = pickle.loads(Path(os.environ[ENTRIES]).read_bytes())  # noqa: S301  our own
