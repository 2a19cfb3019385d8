"""Alembic's environment."""

import orders.models  # noqa: F401 - the tables, and what they attach
from alembic import context
from orders.database import URL, Base, engine

import pgreact.alembic  # noqa: F401 - op.pgreact_upgrade, op.attach_route and the others

if context.is_offline_mode():
    context.configure(url=URL, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
