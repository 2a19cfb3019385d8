"""A session of the command line: one psycopg connection."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

from pgreact.errors import PgreactError
from pgreact.postgres import conninfo
from pgreact.postgres.session_settings import SESSION_SETTINGS, set_config_statement

_SET_LOCAL = set_config_statement(SESSION_SETTINGS, local=True).encode()


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that sets its settings in each transaction, as a pooler may change the session."""

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status is TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                psycopg.Cursor(self).execute(_SET_LOCAL)
            yield transaction


class _Cursor(psycopg.Cursor[Row]):
    """A cursor that runs a statement outside a transaction in one of its own, with the settings."""

    def execute(self, *args: Any, **options: Any) -> Self:
        if self.connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(*args, **options)
        with self.connection.transaction():
            return super().execute(*args, **options)


@contextmanager
def connect(dsn: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """Open a connection in autocommit mode, and turn the server's errors into :class:`PgreactError`.

    Args:
        dsn: A DSN as libpq reads it; empty: the ``PG*`` variables.

    Raises:
        PgreactError: The server cannot be reached, or refused a statement.
        ConfigError: The DSN is invalid.
    """
    where = conninfo.redacted(dsn)
    try:
        with open_connection(dsn, "pgreact cli") as connection:
            yield connection
    except psycopg.Error as error:
        raise PgreactError(error_line(error, where)) from error


def open_connection(
    dsn: str, application_name: str, timeout: int = 10
) -> "psycopg.Connection[tuple[Any, ...]]":
    """Open a connection in autocommit mode.

    Args:
        dsn: A DSN as libpq reads it; empty: the ``PG*`` variables.
        application_name: The session's name.
        timeout: Seconds for each address of the server.

    Raises:
        psycopg.Error: The server cannot be reached.
    """
    connection = _Connection.connect(
        dsn,
        autocommit=True,
        connect_timeout=timeout,
        application_name=application_name,
        client_encoding="utf8",
        cursor_factory=_Cursor,
    )
    # each step must see the commits of other sessions before it, whatever the database's default
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    # a replica refuses this setting
    if connection.info.parameter_status("in_hot_standby") == "off":
        connection.read_only = False
    # a pooler in transaction mode cannot keep prepared statements
    connection.prepare_threshold = None
    return connection


def error_line(error: psycopg.Error, where: str) -> str:
    """Return the server's message with its hint, as one line that names the database."""
    message = error.diag.message_primary or str(error).strip().splitlines()[0]
    hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
    absent = (
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
    )
    if isinstance(error, absent) and re.search(r"\bpgreact\b", message):
        hint = '; run "pgreact apply" first'
    return f"{where}: {message}{hint}"
