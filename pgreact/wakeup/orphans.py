"""Orphans: triggers and sequences without a route, and routes without a sequence, as after a restore."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psycopg import sql

from pgreact.postgres.change import Change, Connection, rows
from pgreact.postgres.queries import query


def orphans(connection: Connection, wanted: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Find orphans.

    Args:
        connection: Any session on a database with pgreact's schema.
        wanted: Triggers that are about to be attached: ``relation``, ``event``, and ``route`` (its id) or
            ``task``. They are no orphans.

    Returns:
        A row each, with ``kind`` and ``name``. ``trigger``: nothing attached the trigger, which is on
        ``table``. ``sequence``: no route has the sequence. ``gate``: the route of this name, with the id
        ``route``, has no sequence.
    """
    return rows(connection, query("orphans"), {"wanted": json.dumps(wanted or [])})


def described(row: Mapping[str, Any]) -> str:
    """Return an orphan as a phrase.

    Args:
        row: A row of :func:`orphans`.
    """
    match row["kind"]:
        case "trigger":
            return f"trigger {row['name']} on {row['table']}: orphaned, nothing attached it"
        case "sequence":
            return f"sequence pgreact.{row['name']}: orphaned, no route has it"
        case _:
            return f"route {row['name']}: the sequence of its gate is missing"


def repairs(connection: Connection, wanted: Callable[[], Iterable[dict[str, Any]]]) -> list[Change]:
    """Return the steps that drop orphans, and create the missing sequences.

    Args:
        connection: Any session on a database with pgreact's schema.
        wanted: Returns the triggers that are about to be attached, see :func:`orphans`. It is called only if
            a trigger is an orphan.
    """
    found = orphans(connection)
    if any(row["kind"] == "trigger" for row in found):
        found = orphans(connection, [*wanted()])
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
    # in one group: a trigger depends on its sequence
    tables = (row["table"],) if row["table"] else ()
    return Change("-", described(row), statement.as_string(), "the orphans", tables)
