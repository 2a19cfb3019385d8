"""What must change so that a database is as the configuration says."""

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from pgreact.database import blueprint, installation
from pgreact.database.change import Change, Connection, conditions, resolve, rows, savepoint
from pgreact.database.left_behind import repairs
from pgreact.database.queue_plan import queue_changes
from pgreact.errors import ConfigError, PgreactError
from pgreact.settings import RouteSettings, Settings
from pgreact.shipped import query
from pgreact.units import short

# A DDL statement that waits for a table makes every later writer wait behind it: so it gives up soon, lets
# them pass, and tries again.
LOCK_TIMEOUT_MS = 200


def plan(connection: Connection, settings: Settings, *, take_over: bool = False) -> list[Change]:
    """Compare a database with the configuration.

    Args:
        connection: Any session on it.
        settings: What it should be.
        take_over: It may belong to another application until then.

    Returns:
        The steps, in order. Where an older schema must be migrated first, only those steps.

    Raises:
        ConfigError: The file names what the database does not have.
        PgreactError: The schema is not ours, or made by a newer pgreact, or is another application's.
    """
    applied = _applied(connection)
    owner = installation.changes(connection, settings.belongs_to, take_over=take_over, empty=not applied)
    steps = blueprint.migrations()
    known = {step.name for step in steps} | {blueprint.FUNCTIONS}
    if newer := sorted(set(applied) - known):
        raise PgreactError(
            f"this database was set up by a newer pgreact (migration {newer[-1]}): "
            "install that version or newer"
        )
    changes = [
        Change("+", f"schema pgreact: migration {step.name}", step.script)
        for step in steps
        if step.name not in applied
    ]
    functions = blueprint.functions()
    if applied.get(functions.name) != functions.checksum:
        sign = "~" if functions.name in applied else "+"
        changes.append(Change(sign, "schema pgreact: functions", functions.script))
    if applied and changes:
        return changes  # routes can only be compared by the functions that are yet to come
    health = rows(connection, query("trigger_health")) if applied else []
    existing = _existing_routes(connection) if applied else {}
    wanted = [
        *_route_changes(connection, settings, health, existing),
        *queue_changes(connection, settings, health, empty=not applied),
    ]
    ids = {name: row["id"] for name, row in existing.items()}
    return [*changes, *owner, *(repairs(connection, settings, ids) if applied else ()), *wanted]


def apply(
    connection: Connection,
    settings: Settings,
    patience: float,
    told: Callable[[str], None],
    *,
    take_over: bool = False,
) -> Iterator[Change]:
    """Make a database as the configuration says, one short transaction a step.

    Args:
        connection: A session in autocommit mode that owns the schema and the tables.
        settings: What it should be.
        patience: Seconds to go on asking for a lock that somebody holds.
        told: Gets a line when it has to wait.
        take_over: It may belong to another application until then.

    Yields:
        Each step, once it is committed.

    Raises:
        ConfigError: The file names what the database does not have.
        PgreactError: The schema is not ours or another application's, or a lock could not be had.
    """
    # planned anew at each step, under the lock: another apply may have taken it already
    return _step_by_step(connection, lambda: plan(connection, settings, take_over=take_over), patience, told)


def uninstall_plan(connection: Connection) -> list[Change]:
    """Return the steps that remove everything pgreact ever made in a database."""
    triggers = connection.execute(query("foreign_triggers")).fetchall()
    changes = [
        Change("-", f"trigger {name} on {table}", f"drop trigger {_quoted(name)} on {table}")
        for table, name in triggers
    ]
    if connection.execute("select to_regnamespace('pgreact') is not null").fetchall()[0][0]:
        _applied(connection)
        changes.append(Change("-", "schema pgreact", "drop schema pgreact cascade"))
    return changes


def uninstall(connection: Connection, patience: float, told: Callable[[str], None]) -> Iterator[Change]:
    """Remove everything pgreact ever made in a database.

    Raises:
        PgreactError: The schema is not ours, or a lock could not be had.
    """
    return _step_by_step(connection, lambda: uninstall_plan(connection), patience, told)


def _step_by_step(
    connection: Connection, steps: Callable[[], list[Change]], patience: float, told: Callable[[str], None]
) -> Iterator[Change]:
    deadline = time.monotonic() + patience
    waiting_for = ""
    done: list[Change] = []
    while True:
        change: Change | None = None
        together: list[Change] = []
        try:
            with connection.transaction():
                connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT_MS))
                connection.execute(blueprint.APPLY_LOCK)
                ahead = steps()
                if not ahead:
                    return
                change = ahead[0]
                together = [step for step in ahead if step.statement is change.statement]
                if done.count(change) > 2:
                    raise PgreactError(f"{change}: done three times and still to do: something undoes it")
                connection.execute(change.statement.encode())
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            step = str(change) if change else "another pgreact apply"
            if time.monotonic() > deadline:
                raise PgreactError(
                    f"{step}: a lock could not be had in {patience:g} s: a long transaction holds it; end it "
                    "or give --wait more seconds; what was printed before is done"
                ) from error
            if waiting_for != step:
                told(f"waiting for a lock: {step}")
                waiting_for = step
            time.sleep(0.1 + 0.2 * random.random())
        else:
            done.append(change)
            yield from together
            deadline = time.monotonic() + patience


def _applied(connection: Connection) -> dict[str, str]:
    there, ours = connection.execute(
        "select to_regnamespace('pgreact') is not null, to_regclass('pgreact.migration') is not null"
    ).fetchall()[0]
    if not there:
        return {}
    if not ours:
        raise PgreactError("there is a schema pgreact that pgreact did not make: rename it first")
    return dict(connection.execute("select name, checksum from pgreact.migration").fetchall())


def _route_changes(
    connection: Connection,
    settings: Settings,
    health: list[dict[str, Any]],
    existing: dict[str, dict[str, Any]],
) -> list[Change]:
    changes: list[Change] = []
    for name, old in existing.items():
        if old["origin"] == "config" and name not in settings.routes:
            statement = sql.SQL("delete from pgreact.route where name = {}").format(name).as_string()
            changes.append(Change("-", f"route {name}, with its triggers", statement))
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
            changes.append(Change("~" if different else "+", what, blueprint.route_statement(name, route)))
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
            if row is None or (row["condition"], row["always"], row["trigger"], row["origin"]) != (
                watch.when,
                watch.always,
                "ok",
                "config",
            ):
                events.append(event)
        if events:
            what = f"route {name}: {', '.join(events)} on {table}{conditions(watch.when, watch.always)}"
            changes.append(Change(sign, what, blueprint.attach_statement(table, name, events, watch)))
    for key, row in now.items():
        if row["origin"] == "config" and key not in wanted:
            removal = sql.SQL(
                "delete from pgreact.watched w using pgreact.route r where r.id = w.route_id and r.name = {} "
                "and w.relation::oid = {}::oid and w.event = {}"
            ).format(name, row["relation"], row["event"])
            changes.append(
                Change("-", f"route {name}: {row['event']} on {row['table']}", removal.as_string())
            )
    return changes


def _existing_routes(connection: Connection) -> dict[str, dict[str, Any]]:
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


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _shown(value: object) -> str:
    return short(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
