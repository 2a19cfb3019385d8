"""The Celery application: ``celery -A proj.celery:app worker``, ``pgreact -A proj.celery:app listen``."""

import os

from celery import Celery

import pgreact

BROKER_URL = os.environ.get("PROJ_BROKER_URL", "amqp://")

app = Celery("proj", broker=BROKER_URL, include=["proj.tasks"])
pgreact.setup(app)  # for jobs of the built-in queue; leaves other messages alone
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,  # do not let a dispatch wait behind a running job
)

if BROKER_URL.startswith("pgmq:"):
    # A broker on PostgreSQL, for demo and development. Use RabbitMQ or Redis in production.
    app.conf.broker_transport_options = {
        "init_extension": False,
        "use_notify": True,
        "notify_throttle_interval_ms": 0,
        "wait_time_seconds": 0,
        "visibility_timeout": 60,
    }
    app.conf.worker_enable_remote_control = False  # its queues' names are too short for Celery's reply queues
