"""The Celery application of the tests of ``delay()`` in Django's transactions; its worker runs Django."""

import os

from celery import Celery
from django.db import transaction

import pgreact

app = Celery(
    "django_delay",
    broker=os.environ.get("TASK_BROKER"),
    backend=os.environ.get("TASK_BROKER"),
    set_as_current="TASK_BROKER" in os.environ,
    # the fixup for Django chooses it where DJANGO_SETTINGS_MODULE is set
    task_cls="celery.contrib.django.task:DjangoTask",
)
app.conf.update(
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    result_expires=600,
)
pgreact.setup(app, transactional=True)


@app.task(shared=False)
def email_of(order_id: int) -> str | None:
    """Return the address of an order; ``None``: there is no such order."""
    from orders.models import Order

    order = Order.objects.filter(pk=order_id).first()
    return order.email if order else None


@app.task(shared=False)
def place(email: str, *, fail: bool = False) -> str:
    """Place an order and call a task for it, in a transaction of the worker's; return the call's id."""
    from orders.models import Order

    result = None
    try:
        with transaction.atomic():
            result = email_of.delay(Order.objects.create(email=email, total=1).pk)
            if fail:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert result is not None
    return str(result.id)
