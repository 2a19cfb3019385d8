"""One psycopg connection of the command line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pgreact.database import conninfo
from pgreact.errors import PgreactError


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
        with psycopg.connect(
            dsn, autocommit=True, connect_timeout=10, application_name="pgreact cli", client_encoding="utf8"
        ) as connection:
            # whatever the database's default: each step must see what another session did before it
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
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
