"""The plan of routes and the tables that they watch: what differs from the configuration."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError
from pgreact.postgres.change import Change, Connection, conditions, relation_of, resolve, rows, savepoint
from pgreact.postgres.queries import query
from pgreact.quantities import format_change
from pgreact.wakeup.settings import RouteSettings, Watch


def plan(
    connection: Connection,
    routes: Mapping[str, RouteSettings],
    label: str,
    health: list[dict[str, Any]],
    existing: dict[str, dict[str, Any]],
) -> list[Change]:
    """Compare the routes of a database, and the tables that they watch, with the configuration.

    Args:
        connection: Any session on the database.
        routes: The configured routes, by name.
        label: The configuration's name in errors.
        health: The rows of ``trigger_health``.
        existing: The routes of the database, by name, see :func:`existing_routes`.

    Returns:
        The steps, in order; the steps of a route are a group.

    Raises:
        ConfigError: The file names an object that the database does not have.
    """
    changes: list[Change] = []
    for name, old in existing.items():
        if old["origin"] == "config" and name not in routes:
            statement = sql.SQL("delete from pgreact.route where name = {}").format(name).as_string()
            watches = tuple(dict.fromkeys(row["table"] for row in health if row["route"] == name))
            what = f"route {name}, with its triggers"
            changes.append(Change("-", what, statement, tables=watches or (name,)))
    for name, route in routes.items():
        columns = route_columns(route)
        different = [
            key for key, value in columns.items() if name in existing and existing[name][key] != value
        ]
        if name not in existing or different:
            _check_ready(connection, f"{label}: routes.{name}.ready", route)
            differences = [format_change(key, existing[name][key], columns[key]) for key in different]
            what = f"route {name}: " + (", ".join(differences) or f"calls {route.task}")
            statement = route_statement(name, route)
            changes.append(Change("~" if different else "+", what, statement, group=f"route {name}"))
        found = [row for row in health if row["route"] == name]
        changes += _watch_changes(connection, name, route.tables, f"{label}: routes.{name}", found)
    return changes


def _watch_changes(
    connection: Connection, name: str, tables: Sequence[Watch], label: str, health: list[dict[str, Any]]
) -> list[Change]:
    now = {(row["relation"], row["event"]): row for row in health}
    wanted: set[tuple[int, str]] = set()
    changes: list[Change] = []
    for index, watch in enumerate(tables):
        place = f"{label}.tables[{index}]"
        relation, table = resolve(connection, watch.table, place)
        events = []
        sign = "~"
        for event in watch.on:
            if (relation, event) in wanted:
                raise ConfigError(f"{place}: {event} of {table} is named twice for this route")
            wanted.add((relation, event))
            row = now.get((relation, event))
            if row is None:
                sign = "+"
            if row is None or not watch.is_attached(row, event):
                events.append(event)
        if events:
            when = conditions(watch.when, watch.always, watch.changed_by(*events))
            what = f"route {name}: {', '.join(events)} on {table}{when}"
            statement = attach_statement(table, name, events, watch)
            changes.append(Change(sign, what, statement, f"route {name}", (table,)))
    for key, row in now.items():
        if row["origin"] == "config" and key not in wanted:
            removal = sql.SQL(
                "delete from pgreact.watched w using pgreact.route r where r.id = w.route_id and r.name = {} "
                "and w.relation::oid = {} and w.event = {}"
            ).format(name, relation_of(row), row["event"])
            what = f"route {name}: {row['event']} on {row['table']}"
            changes.append(Change("-", what, removal.as_string(), f"route {name}", (row["table"],)))
    return changes


def existing_routes(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the routes of a database by name, with their options parsed."""
    return {
        row["name"]: {**row, "options": json.loads(row["options"])}
        for row in rows(connection, query("routes"))
    }


def _check_ready(connection: Connection, place: str, route: RouteSettings) -> None:
    if route.ready is None:
        return
    try:
        with savepoint(connection):
            connection.execute("set local search_path to default")  # as the daemon runs it
            # binary: the extended protocol, which accepts one statement only
            connection.execute(b"explain " + route.ready.encode(), binary=True)
    except psycopg.Error as error:
        raise ConfigError(f"{place}: {error.diag.message_primary or error}") from None


def route_columns(route: RouteSettings) -> dict[str, Any]:
    """Return the columns of ``pgreact.route`` for a route of the file; durations in seconds."""
    return {
        "task": route.task,
        "window": route.window,
        "countdown": route.countdown,
        "expires": route.expires or None,
        "sweep": route.sweep,
        "single_flight": route.single_flight,
        "gate": route.gate,
        "gate_poll": route.gate_poll,
        "gate_close_rate": route.gate_close_rate,
        "gate_open_after": route.gate_open_after,
        "options": json.loads(json.dumps(route.options, default=str)),
        "ready": route.ready,
        "origin": "config",
    }


def route_statement(name: str, route: RouteSettings) -> str:
    """Return the statement that inserts or updates a route of the file."""
    columns = route_columns(route)
    values = [_literal(column, value) for column, value in columns.items()]
    return (
        sql.SQL(
            "insert into pgreact.route (name, {columns})\nvalues ({name}, {values})\n"
            "on conflict (name) do update set {sets};"
        )
        .format(
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            name=name,
            values=sql.SQL(", ").join(values),
            sets=sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns
            ),
        )
        .as_string()
    )


def attach_statement(table: str, route: str, events: Sequence[str], watch: Watch) -> str:
    """Return the statements that attach a route to a table.

    Args:
        table: The table's full, quoted name, or its name in the file.
        route: The route's name.
        events: The entry's events to attach.
        watch: The entry of the file.
    """
    return (
        sql.SQL(
            "select pgreact.attach({table}, {route}, {events}, {condition}, {always}, {changed});\n"
            "update pgreact.watched set origin = 'config'\n"
            "where relation = {table}::regclass and event = any ({events})\n"
            "    and route_id = (select id from pgreact.route where name = {route});"
        )
        .format(
            table=table,
            route=route,
            events=list(events),
            condition=watch.when,
            always=watch.always,
            changed=watch.changed_by(*events),
        )
        .as_string()
    )


def script(routes: Mapping[str, RouteSettings]) -> list[str]:
    """Return the statements for all routes and their tables, for a user's own migration tool."""
    parts = []
    for name, route in routes.items():
        parts.append(f"-- route {name}\n\n{route_statement(name, route)}")
        parts.extend(attach_statement(watch.table, name, watch.on, watch) for watch in route.tables)
    return parts


def _literal(column: str, value: Any) -> sql.Composable:
    if column == "options":
        return sql.Literal(json.dumps(value))
    if isinstance(value, float):
        return sql.SQL("make_interval(secs => {})").format(value)
    return sql.Literal(value)
