"""What must change so that routes, and the tables that they watch, are as the configuration says."""

import json
from typing import Any

import psycopg
from psycopg import sql

from pgreact.database import blueprint
from pgreact.database.change import Change, Connection, conditions, relation_of, resolve, rows, savepoint
from pgreact.errors import ConfigError
from pgreact.settings import RouteSettings, Settings
from pgreact.shipped import query
from pgreact.units import short


def route_changes(
    connection: Connection,
    settings: Settings,
    health: list[dict[str, Any]],
    existing: dict[str, dict[str, Any]],
) -> list[Change]:
    """Compare the routes of a database, and the tables that they watch, with the configuration.

    Args:
        connection: Any session on it.
        settings: What they should be.
        health: The rows of ``trigger_health``.
        existing: The routes there are, by name.

    Returns:
        The steps, in order; those of one route are a group.

    Raises:
        ConfigError: The file names what the database does not have.
    """
    changes: list[Change] = []
    for name, old in existing.items():
        if old["origin"] == "config" and name not in settings.routes:
            statement = sql.SQL("delete from pgreact.route where name = {}").format(name).as_string()
            watched = tuple(dict.fromkeys(row["table"] for row in health if row["route"] == name))
            what = f"route {name}, with its triggers"
            changes.append(Change("-", what, statement, tables=watched or (name,)))
    for name, route in settings.routes.items():
        columns = blueprint.route_columns(route)
        different = [
            key for key, value in columns.items() if name in existing and existing[name][key] != value
        ]
        if name not in existing or different:
            _check_ready(connection, settings, name, route)
            what = f"route {name}: " + (
                ", ".join(
                    f"{key} {_shown(existing[name][key])} → {_shown(columns[key])}" for key in different
                )
                or f"calls {route.task}"
            )
            statement = blueprint.route_statement(name, route)
            changes.append(Change("~" if different else "+", what, statement, group=f"route {name}"))
        changes += _watch_changes(connection, settings, name, [row for row in health if row["route"] == name])
    return changes


def _watch_changes(
    connection: Connection, settings: Settings, name: str, health: list[dict[str, Any]]
) -> list[Change]:
    now = {(row["relation"], row["event"]): row for row in health}
    wanted: set[tuple[int, str]] = set()
    changes: list[Change] = []
    for index, watch in enumerate(settings.routes[name].tables):
        place = f"{settings.file or 'configuration'}: routes.{name}.tables[{index}]"
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
            if row is None or (
                row["condition"],
                row["changed"],
                row["always"],
                row["trigger"],
                row["origin"],
            ) != (
                watch.when,
                watch.changed_by(event),
                watch.always,
                "ok",
                "config",
            ):
                events.append(event)
        if events:
            when = conditions(watch.when, watch.always, watch.changed_by(*events))
            what = f"route {name}: {', '.join(events)} on {table}{when}"
            statement = blueprint.attach_statement(table, name, events, watch)
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
    """Return the routes of a database by name, with their options as values."""
    return {
        row["name"]: {**row, "options": json.loads(row["options"])}
        for row in rows(connection, query("routes"))
    }


def _check_ready(connection: Connection, settings: Settings, name: str, route: RouteSettings) -> None:
    if route.ready is None:
        return
    try:
        with savepoint(connection):
            connection.execute("set local search_path to default")  # as the daemon runs it
            # binary: the extended protocol, which takes one statement only
            connection.execute(b"explain " + route.ready.encode(), binary=True)
    except psycopg.Error as error:
        raise ConfigError(
            f"{settings.file or 'configuration'}: routes.{name}.ready: {error.diag.message_primary or error}"
        ) from None


def _shown(value: object) -> str:
    return short(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
