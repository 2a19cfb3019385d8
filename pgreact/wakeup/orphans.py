"""What a restore leaves behind: triggers and sequences that no route has, routes without a sequence."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psycopg import sql

from pgreact.postgres.change import Change, Connection, rows
from pgreact.postgres.queries import query


def left_behind(connection: Connection, wanted: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return what is amiss, as one row each.

    Args:
        connection: Any session on a database with pgreact's schema.
        wanted: Changes that are about to be attached: ``relation``, ``event``, and ``route`` (its id) or
            ``task``. A trigger that is theirs already is not left behind.

    Returns:
        ``kind`` (``trigger``: nothing attached it, on ``table``; ``sequence``: no route has it; ``gate``: the
        route of that name, whose id is ``route``, has no sequence) and ``name``.
    """
    return rows(connection, query("left_behind"), {"wanted": json.dumps(wanted or [])})


def described(row: Mapping[str, Any]) -> str:
    """Return what is amiss as a phrase.

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
    """Return the steps that remove what was left behind, and make the sequences that are missing.

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
    # together: a trigger holds on to its sequence
    tables = (row["table"],) if row["table"] else ()
    return Change("-", described(row), statement.as_string(), "what was left behind", tables)
