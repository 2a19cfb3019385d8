"""Statements of ``sql/queries`` for the migrations of an application: with values in their text.

Each is one statement, since asyncpg prepares what it executes, and a prepared statement is one. It has no
parameters, so that a migration tool prints what it would execute.
"""

from typing import Any

from psycopg import sql

from pgreact.postgres.queries import query


def do(name: str, /, **values: Any) -> str:
    """Return the statement that executes a block of PL/pgSQL.

    Args:
        name: The block is ``sql/queries/NAME.sql``.
        values: As in :func:`filled`.
    """
    return f"do {dollar_quoted(filled(name, **values).as_string())}"


def filled(name: str, /, **values: Any) -> sql.Composed:
    """Return the text of ``sql/queries/NAME.sql`` with values in it.

    Args:
        name: The file's name.
        values: SQL, or values that become literals, by the name in the text.
    """
    return raw(query(name)).format(**values)


def raw(text: Any) -> sql.SQL:
    """Return text of pgreact's own as SQL."""
    return sql.SQL(text)


def dollar_quoted(text: str) -> str:
    """Return a text as a dollar-quoted constant, with a tag that it does not contain."""
    number = 0
    while (tag := f"$pgreact_{number}$") in text:
        number += 1
    return f"{tag}{text}{tag}"
