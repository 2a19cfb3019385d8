"""Django's connection as the functions of pgreact take one: psycopg's own types, in Django's transaction."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import psycopg
from django.db import connections, transaction
from psycopg.rows import RowFactory, tuple_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import JsonbLoader

from pgreact.django import conf
from pgreact.postgres.change import Connection


class _Cursor(psycopg.Cursor[Any]):
    """A cursor without Django's loaders, which leave JSON as text and times without a zone."""

    def __init__(self, connection: psycopg.Connection[Any], row_factory: RowFactory[Any]) -> None:
        super().__init__(connection, row_factory=row_factory)
        self.adapters.register_loader("jsonb", JsonbLoader)
        self.adapters.register_loader("timestamptz", TimestamptzLoader)


class _Session:
    """The part of ``psycopg.Connection`` that pgreact's functions use."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def cursor(self, *, row_factory: RowFactory[Any] = tuple_row) -> _Cursor:
        return _Cursor(self._connection, row_factory)

    def execute(self, statement: Any, parameters: Any = None) -> _Cursor:
        return self.cursor().execute(statement, parameters)

    def transaction(self, *, force_rollback: bool = False) -> contextlib.AbstractContextManager[Any]:
        return self._connection.transaction(force_rollback=force_rollback)


def reading() -> Connection:
    """Return the session of Django's connection to pgreact's database, for statements that only read.

    Raises:
        ConfigError: The database is not PostgreSQL, or ``DATABASES`` has no such alias.
    """
    conf.dsn()  # refuses another database
    connection = connections[conf.alias()]
    connection.ensure_connection()
    return cast("Connection", _Session(connection.connection))


@contextlib.contextmanager
def acting(actor: str) -> Iterator[Connection]:
    """Run a block in a transaction, or in a savepoint of the open one.

    Args:
        actor: The user, for pgreact's event log.
    """
    with transaction.atomic(using=conf.alias()):
        session = reading()
        session.execute("select set_config('pgreact.actor', %s, true)", (actor,))
        yield session
