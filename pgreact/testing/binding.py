"""Recognise the connection of a test, without importing a library for that."""

from typing import Any

from pgreact.testing.connection import DRIVERS, TestConnection

_DJANGO = {"django.db.backends.base.base.BaseDatabaseWrapper", "django.utils.connection.ConnectionProxy"}
_RUN_SYNC = "; with an AsyncSession: await session.run_sync(lambda session: drain(connection=session))"
_REMEDIES = {
    "sqlalchemy.ext.asyncio.engine.AsyncConnection": _RUN_SYNC,
    "sqlalchemy.ext.asyncio.session.AsyncSession": _RUN_SYNC,
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": _RUN_SYNC,
}


def bind(connection: Any) -> TestConnection:
    """Return a connection of any supported library as a :class:`TestConnection`.

    Raises:
        TypeError: It is none, or it is asynchronous.
    """
    # by __class__, which a proxy borrows from the connection in it
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in connection.__class__.__mro__]
    for kind in kinds:
        if kind in DRIVERS:
            return DRIVERS[kind](connection)
        if kind in _DJANGO:
            from pgreact.testing.django import DjangoConnection

            return DjangoConnection(connection)
    remedy = next((_REMEDIES[kind] for kind in kinds if kind in _REMEDIES), "")
    raise TypeError(
        f"connection is a {kinds[0]}. It must be the connection in whose transaction the test runs: of "
        "psycopg (Connection), psycopg2, SQLAlchemy (Connection, Session) or Django (django.db.connection)"
        f"{remedy}"
    )
