"""The state of a database, as autogenerate needs it."""

from typing import Any, NamedTuple

from sqlalchemy import Connection

from pgreact.alembic.attachment import TableName, Target, Terms
from pgreact.alembic.comparison import Attached, Route
from pgreact.postgres import migrations
from pgreact.postgres.queries import query


class State(NamedTuple):
    """A database's schema ``pgreact``.

    Attributes:
        exists: Whether it has one.
        current: Whether that is of the installed version.
        attached: What is attached.
        routes: Its routes, by name.
    """

    exists: bool
    current: bool
    attached: list[Attached]
    routes: dict[str, Route]


def read(connection: Connection) -> State:
    """Read the state of a database.

    Raises:
        PgreactError: A newer pgreact has set it up.
        sqlalchemy.exc.DBAPIError: The role may not read schema ``pgreact``.
    """
    [there] = _rows(connection, "select to_regclass('pgreact.migration') is not null as there")
    if not there["there"]:
        return State(exists=False, current=False, attached=[], routes={})
    applied = {
        row["name"]: row["checksum"]
        for row in _rows(connection, "select name, checksum from pgreact.migration")
    }
    current = not migrations.missing(applied)
    states = _states(connection) if current else {}
    attached = []
    for row in _rows(connection, query("attachments")):
        schema = None if row["schema"] == connection.dialect.default_schema_name else row["schema"]
        changed = None if row["changed"] is None else frozenset(row["changed"])
        attached.append(
            Attached(
                TableName(schema, row["table"]),
                Target(row["kind"], row["name"]),
                row["event"],
                Terms(row["lane"], row["condition"], changed, row["always"]),
                row["origin"],
                states.get((row["relation"], row["kind"], row["name"], row["event"]), "ok"),
                frozenset(row["columns"]),
            )
        )
    routes = {
        row["name"]: Route(row["task"], row["origin"])
        for row in _rows(connection, "select name, task, origin from pgreact.route")
    }
    return State(exists=True, current=current, attached=attached, routes=routes)


def _states(connection: Connection) -> dict[tuple[int, str, str, str], str]:
    """Return the states of the triggers, by table, target and event."""
    found = {
        (row["relation"], "route", row["route"], row["event"]): row["trigger"]
        for row in _rows(connection, query("trigger_health"))
    }
    for row in _rows(connection, query("queue_outbox")):
        found[row["relation"], "outbox", row["task"], row["event"]] = row["trigger"]
    return found


def _rows(connection: Connection, statement: str) -> list[Any]:
    result = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    return list(result.mappings())
