"""An order. Its decorators say what happens when it changes; Alembic's autogenerate reads them."""

import datetime
import decimal

from sqlalchemy import DateTime, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from orders.database import Base
from pgreact.alembic import outbox, watch


# a paid order wakes the dispatch task, milliseconds after the commit
@watch(
    route="ship",
    task="orders.tasks.ship_paid_orders",
    on=("insert", "update"),
    when="new.status = 'paid'",
)
# each change of the status becomes a job, in order for each row
@outbox(enqueue="orders.tasks.announce", lane="announcements", on=("update",), changed=("status",))
class Order(Base):
    """What a customer ordered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    total: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2))
    status: Mapped[str] = mapped_column(default="new")
    receipt_sent_at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
