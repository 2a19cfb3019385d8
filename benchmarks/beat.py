"""Celery Beat as the alternative to wake-ups: one dispatch a second."""

import os

from celery import Celery

app = Celery("benchmarks.beat", broker=os.environ["BENCH_BROKER"])
app.conf.broker_transport_options = (
    {"confirm_publish": True} if os.environ["BENCH_BROKER"].startswith("amqp") else {}
)
app.conf.beat_schedule = {
    "dispatch": {
        "task": "tasks.dispatch_next_available",
        "schedule": 1.0,
        "options": {"queue": "beat", "ignore_result": True},
    }
}
