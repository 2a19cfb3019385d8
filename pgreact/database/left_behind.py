"""What a restore leaves behind: triggers and sequences that no route has, routes without a sequence."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import sql

from pgreact.database.change import Change, Connection, resolve, rows
from pgreact.settings import Settings, Watch
from pgreact.shipped import query


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


def repairs(connection: Connection, settings: Settings, ids: Mapping[str, int]) -> list[Change]:
    """Return the steps that remove what was left behind, and make the sequences that are missing.

    Args:
        connection: Any session on a database with pgreact's schema.
        settings: Names no table that is not there. Triggers that it wants are left standing, for ``attach``.
        ids: Of the routes there are, by name.
    """
    found = left_behind(connection)
    if any(row["kind"] == "trigger" for row in found):
        found = left_behind(connection, [*_wanted(connection, settings, ids)])
    return [_repair(row) for row in found]


def _wanted(connection: Connection, settings: Settings, ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    entries: list[tuple[Watch, str, Any]] = [
        (watch, "route", ids[name])
        for name, route in settings.routes.items()
        if name in ids
        for watch in route.tables
    ]
    entries += [(entry, "task", entry.enqueue) for entry in settings.outbox]
    for watch, key, value in entries:
        relation, _ = resolve(connection, watch.table, "configuration")
        for event in watch.on:
            yield {"relation": relation, "event": event, key: value}


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
