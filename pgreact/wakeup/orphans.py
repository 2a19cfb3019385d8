"""Leftovers of a restore: triggers and sequences without a route, routes without a sequence."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psycopg import sql

from pgreact.postgres.change import Change, Connection, rows
from pgreact.postgres.queries import query


def left_behind(connection: Connection, wanted: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return the leftovers, as one row each.

    Args:
        connection: Any session on a database with pgreact's schema.
        wanted: Changes that are about to be attached: ``relation``, ``event``, and ``route`` (its id) or
            ``task``. Their triggers are no leftovers.

    Returns:
        ``kind`` (``trigger``: nothing attached it, on ``table``; ``sequence``: no route has it; ``gate``: the
        route of that name, whose id is ``route``, has no sequence) and ``name``.
    """
    return rows(connection, query("left_behind"), {"wanted": json.dumps(wanted or [])})


def described(row: Mapping[str, Any]) -> str:
    """Return the description of a leftover.

    Args:
        row: One of ``left_behind``.
    """
    match row["kind"]:
        case "trigger":
            return f"trigger {row['name']} on {row['table']}: left behind, nothing has attached it"
        case "sequence":
            return f"sequence pgreact.{row['name']}: left behind, no route has it"
        case _:
            return f"route {row['name']}: the sequence of its gate"


def repairs(connection: Connection, wanted: Callable[[], Iterable[dict[str, Any]]]) -> list[Change]:
    """Return the steps that remove leftovers, and create missing sequences.

    Args:
        connection: Any session on a database with pgreact's schema.
        wanted: Returns the changes that are about to be attached, see :func:`left_behind`; called only if a
            trigger was left behind.
    """
    found = left_behind(connection)
    if any(row["kind"] == "trigger" for row in found):
        found = left_behind(connection, [*wanted()])
    return [_repair(row) for row in found]


def _repair(row: Mapping[str, Any]) -> Change:
    match row["kind"]:
        case "trigger":
            statement = sql.SQL("drop trigger {} on {}").format(
                sql.Identifier(row["name"]), sql.SQL(row["table"])
            )
        case "sequence":
            statement = sql.SQL("drop sequence {}").format(sql.Identifier("pgreact", row["name"]))
        case _:
            statement = sql.SQL("select pgreact.make_gate({})").format(row["route"])
    if row["kind"] == "gate":
        return Change("+", described(row), statement.as_string())
    # in one step: a trigger depends on its sequence
    tables = (row["table"],) if row["table"] else ()
    return Change("-", described(row), statement.as_string(), "what was left behind", tables)
