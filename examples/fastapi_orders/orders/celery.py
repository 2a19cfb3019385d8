"""The Celery application."""

import os

from celery import Celery

import pgreact

app = Celery("orders", broker=os.environ.get("BROKER_URL", "redis://localhost"), include=["orders.tasks"])
app.conf.task_default_queue = "orders"
pgreact.setup(app)
