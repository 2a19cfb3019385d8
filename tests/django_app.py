"""The Celery application of the Django project of ``tests.django_settings``."""

import os
from typing import Any

from celery import Celery

import pgreact

app = Celery("tests", broker=os.environ["TASK_BROKER"])
app.conf.update(
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
)
pgreact.setup(app)


@app.on_after_finalize.connect
def hear_signals(**_: Any) -> None:
    """Write the signals of ``django.tasks`` into the log of the worker; fail afterwards."""
    from pgreact.django.tasks.interface import task_finished, task_started

    def hear(name: str) -> Any:
        def receiver(task_result: Any, **_: Any) -> None:
            print(f"{name} {task_result.id} {task_result.status} {task_result.attempts}", flush=True)  # noqa: T201
            raise RuntimeError("a mistake of a receiver")

        return receiver

    task_started.connect(hear("task_started"), weak=False)
    task_finished.connect(hear("task_finished"), weak=False)
