"""One psycopg connection of the command line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

from pgreact.errors import PgreactError
from pgreact.postgres import conninfo
from pgreact.postgres.session_settings import SESSION_SETTINGS, pin

_PIN = pin(SESSION_SETTINGS, local=True).encode()


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Pins its settings in each transaction: a pooler may give the next one another session."""

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status is TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                psycopg.Cursor(self).execute(_PIN)
            yield transaction


class _Cursor(psycopg.Cursor[Row]):
    """Lets a statement outside a transaction be one, which pins its settings."""

    def execute(self, *args: Any, **options: Any) -> Self:
        if self.connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(*args, **options)
        with self.connection.transaction():
            return super().execute(*args, **options)


@contextmanager
def connect(dsn: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """Open a connection in autocommit mode, and turn the server's errors into readable ones.

    Args:
        dsn: As libpq reads it; empty: ``PG*`` variables.

    Raises:
        PgreactError: It cannot be reached, or refused a statement.
        ConfigError: The DSN is none.
    """
    where = conninfo.shown(dsn)
    try:
        with _Connection.connect(
            dsn,
            autocommit=True,
            connect_timeout=10,
            application_name="pgreact cli",
            client_encoding="utf8",
            cursor_factory=_Cursor,
        ) as connection:
            # whatever the database's default: each step must see what another session did before it
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            # a replica would refuse to be asked
            if connection.info.parameter_status("in_hot_standby") == "off":
                connection.read_only = False
            # a pooler that hands out another session for each transaction cannot keep prepared statements
            connection.prepare_threshold = None
            yield connection
    except psycopg.Error as error:
        raise PgreactError(readable(error, where)) from error


def readable(error: psycopg.Error, where: str) -> str:
    """Return what PostgreSQL said, with its hint, as one line that names the database."""
    said = error.diag.message_primary or str(error).strip().splitlines()[0]
    hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
    absent = (
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
    )
    if isinstance(error, absent) and re.search(r"\bpgreact\b", said):
        hint = '; run "pgreact apply" first'
    return f"{where}: {said}{hint}"
