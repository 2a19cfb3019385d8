"""The Celery application of ``pgreact demo --web``: tasks that take their time, and some that fail."""

import os
import random
import time
from typing import Any

from celery import Celery

import pgreact

app = Celery("shop", broker=os.environ.get("PROJ_BROKER_URL", "amqp://"))
pgreact.setup(app)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    broker_transport_options={
        "init_extension": False,
        "use_notify": True,
        "notify_throttle_interval_ms": 0,
        "wait_time_seconds": 0,
        "visibility_timeout": 60,
    },
)

ERRORS = (
    lambda: ConnectionError("smtp.example.com refused the connection"),
    lambda: TimeoutError("no answer from payments.example.com in 5 s"),
    lambda: ValueError(f"card {random.randint(1000, 9999)} was declined"),
    lambda: KeyError("customer"),
)


def _work(seconds: float, failures: float = 0.0) -> None:
    """Take about so long, and fail at this rate."""
    time.sleep(random.uniform(0.5, 1.5) * seconds)
    if random.random() < failures:
        raise random.choice(ERRORS)()


def _task(name: str, seconds: float, failures: float = 0.0) -> None:
    def run(**_: Any) -> None:
        _work(seconds, failures)

    app.task(name=f"shop.{name}", typing=False)(run)


for _name, _seconds, _failures in (
    ("refresh_stock", 0.2, 0.0),
    ("confirm_order", 0.05, 0.02),
    ("send_email", 0.1, 0.1),
    ("charge_card", 0.2, 0.2),
    ("resize_image", 0.8, 0.02),
    ("import_feed", 1.0, 0.0),
    ("build_report", 3.0, 0.05),
    ("remind", 0.05, 0.0),
    ("poll_bank", 0.3, 0.0),
    ("sync_catalogue", 12.0, 0.0),
    ("currency_rates", 0.2, 1.0),
    ("take_stock", 1.0, 0.0),
):
    _task(_name, _seconds, _failures)
