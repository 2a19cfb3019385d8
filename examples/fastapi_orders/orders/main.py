"""The API: each request is one transaction, and its jobs are rows of that transaction."""

import decimal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import func, select

import pgreact
from orders.database import Transaction
from orders.models import Order
from orders.tasks import send_receipt

app = FastAPI(title="orders")


class NewOrder(BaseModel):
    """The body of a request."""

    email: str = Field(min_length=3)
    total: decimal.Decimal = Field(gt=0, max_digits=10, decimal_places=2)


class Placed(BaseModel):
    """The answer: the order and Celery's id of the job that sends its receipt."""

    order: int
    receipt_task: str


@app.post("/orders", status_code=201)
async def place(new: NewOrder, session: Transaction) -> Placed:
    """Save an order and the job that sends its receipt: both, or none."""
    order = Order(email=new.email, total=new.total)
    session.add(order)
    await session.flush()  # for the id
    # one lane limits the mails; one key keeps those to one customer in order
    job = await pgreact.enqueue(session, send_receipt, [order.id], lane="mail", key=f"customer:{new.email}")
    if await session.scalar(select(func.count()).where(Order.email == new.email, Order.status == "new")) > 5:
        raise HTTPException(409, "pay your other orders first")  # rolls both back
    return Placed(order=order.id, receipt_task=job.task_id)


@app.post("/orders/{order_id}/pay")
async def pay(order_id: int, session: Transaction) -> dict[str, str]:
    """Mark an order as paid; the trigger does the rest."""
    order = await session.get(Order, order_id, with_for_update=True)
    if order is None:
        raise HTTPException(404, "no such order")
    order.status = "paid"
    return {"status": order.status}


@app.get("/orders/{order_id}")
async def show(order_id: int, session: Transaction) -> dict[str, str | None]:
    """Show an order."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return {
        "status": order.status,
        "receipt_sent_at": order.receipt_sent_at and order.receipt_sent_at.isoformat(),
    }
