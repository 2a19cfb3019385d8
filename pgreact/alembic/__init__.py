"""pgreact for SQLAlchemy's users with Alembic: operations for migrations, which autogenerate writes.

Import it in ``env.py``, or where the models are::

    import pgreact.alembic


    @pgreact.alembic.watch(route="dispatch", task="app.tasks.dispatch", on=("insert", "update"))
    class Order(Base): ...

- ``op.pgreact_upgrade()`` brings schema ``pgreact`` up to the installed version
- ``op.attach_route``, ``op.attach_outbox`` and their ``op.detach_...`` attach and detach tables;
  ``op.alter_route`` gives a route another task
- :func:`watch` and :func:`outbox` declare them, and ``alembic revision --autogenerate`` notices what differs
"""

from pgreact.alembic import autogenerate as _autogenerate  # noqa: F401 - likewise
from pgreact.alembic import operations as _operations  # noqa: F401 - registers them
from pgreact.alembic import rendering as _rendering  # noqa: F401 - likewise
from pgreact.alembic.declarations import outbox, watch

__all__ = ["outbox", "watch"]
