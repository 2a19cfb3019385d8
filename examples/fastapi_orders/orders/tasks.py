"""What is done in the background."""

import datetime
import logging
from typing import Any

from sqlalchemy import func, select

from orders.celery import app
from orders.database import Session
from orders.models import Order

log = logging.getLogger(__name__)


@app.task
def send_receipt(order_id: int) -> None:
    """Send the receipt of an order: a job that the request enqueues."""
    with Session.begin() as session:
        order = session.get_one(Order, order_id)
        log.warning("receipt of order %s to %s", order.id, order.email)
        order.receipt_sent_at = datetime.datetime.now(datetime.UTC)


@app.task
def ship_paid_orders() -> None:
    """Ship all paid orders: the task of the route "ship". Two runs do not meet, nor wait for each other."""
    with Session.begin() as session:
        paid = (
            select(Order).where(Order.status == "paid").order_by(Order.id).with_for_update(skip_locked=True)
        )
        for order in session.scalars(paid):
            order.status = "shipped"


@app.task
def announce(**change: Any) -> None:
    """Tell other services of a change: the outbox enqueues it."""
    log.warning("announced: %s", change)


@app.task
def report() -> None:
    """Count the orders: a schedule of pgreact.toml."""
    with Session() as session:
        log.warning("orders: %s", session.scalar(select(func.count(Order.id))))
