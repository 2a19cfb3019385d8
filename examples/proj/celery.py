"""The Celery application: ``celery -A proj.celery:app worker``, ``pgreact -A proj.celery:app listen``."""

import os

from celery import Celery

import pgreact

BROKER_URL = os.environ.get("PROJ_BROKER_URL", "amqp://")

app = Celery("proj", broker=BROKER_URL, include=["proj.tasks"])
pgreact.setup(app)  # for jobs of the built-in queue; other messages run as before
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,  # a dispatch must not wait in a worker process that runs a job
)

if BROKER_URL.startswith("pgmq:"):
    # PostgreSQL as the broker, for demo and development, with nothing to install. In production use RabbitMQ
    # or Redis.
    app.conf.broker_transport_options = {
        "init_extension": False,
        "use_notify": True,
        "notify_throttle_interval_ms": 0,
        "wait_time_seconds": 0,
        "visibility_timeout": 60,
    }
    app.conf.worker_enable_remote_control = False
