"""The plan that brings a database to the configuration: composed of the parts' plans, and executed."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError
from pgreact.postgres import execution, installation, migrations
from pgreact.postgres.change import Change, Connection, resolve, rows
from pgreact.postgres.queries import query
from pgreact.queue import plan as queue_plan
from pgreact.settings import Settings
from pgreact.timetable import plan as timetable_plan
from pgreact.wakeup import plan as wakeup_plan
from pgreact.wakeup.orphans import repairs

if TYPE_CHECKING:
    from pgreact.wakeup.settings import Watch

MOST_LOGGED = 50  # steps of an apply, in its event


def plan(connection: Connection, settings: Settings, *, take_over: bool = False) -> list[Change]:
    """Compare a database with the configuration.

    Args:
        connection: Any session on the database.
        settings: The configuration.
        take_over: Allow that another application owns the database.

    Returns:
        The steps, in order. Where an older schema must be migrated first, only those steps.

    Raises:
        ConfigError: The file names an object that the database does not have.
        PgreactError: The schema is not pgreact's, is a newer pgreact's, or another application's.
    """
    applied = migrations.applied(connection)
    owner = installation.changes(connection, settings.owner, take_over=take_over, empty=not applied)
    schema = [Change(sign, step.title, step.script) for sign, step in migrations.missing(applied)]
    if applied and schema:
        return schema  # the rest is compared by functions that these steps install
    health = rows(connection, query("trigger_health")) if applied else []
    existing = wakeup_plan.existing_routes(connection) if applied else {}
    routes = wakeup_plan.plan(connection, settings.routes, settings.label, health, existing)
    queue = queue_plan.plan(connection, settings.queue_sections, settings.label, health, empty=not applied)
    schedules = timetable_plan.plan(
        connection, settings.schedules, settings.label, queue.lanes, empty=not applied
    )
    unused = queue_plan.removals(connection, queue.removed, schedules)
    repaired = repairs(connection, lambda: _wanted(connection, settings, existing)) if applied else []
    return [*schema, *owner, *repaired, *routes, *queue.changes, *schedules.values(), *unused]


def _wanted(
    connection: Connection, settings: Settings, existing: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Return the triggers that the configuration attaches to existing routes, and to tasks."""
    entries: list[tuple[Watch, str, Any]] = [
        (watch, "route", existing[name]["id"])
        for name, route in settings.routes.items()
        if name in existing
        for watch in route.tables
    ]
    entries += [(entry, "task", entry.enqueue) for entry in settings.outbox]
    for watch, key, value in entries:
        relation, _ = resolve(connection, watch.table, settings.label)
        for event in watch.on:
            yield {"relation": relation, "event": event, key: value}


def script(settings: Settings, since: int) -> str:
    """Return the schema and the configuration as plain SQL, for a user's own migration tool.

    Args:
        settings: The configuration.
        since: The number of the last migration that has run already.

    Raises:
        ConfigError: No migration has this number.
    """
    steps = migrations.migrations()
    if not 0 <= since <= len(steps):
        raise ConfigError(f"--since {since}: the last migration is {len(steps)}")
    parts = [f"-- {step.name}\n\n{step.script}" for step in [*steps[since:], migrations.functions()]]
    if settings.owner is not None:
        parts.append(f"-- application\n\n{installation.script(settings.owner)}")
    parts += wakeup_plan.script(settings.routes)
    parts += queue_plan.script(settings.queue_sections) + timetable_plan.script(settings.schedules)
    return "\n\n".join(parts) + "\n"


def apply(
    connection: Connection,
    settings: Settings,
    timeout: float,
    warn: Callable[[str], None],
    *,
    take_over: bool = False,
) -> Iterator[Change]:
    """Bring a database to the configuration, in short transactions; all steps of a route share one.

    Args:
        connection: A session in autocommit mode, whose role owns the schema and the tables.
        settings: The configuration.
        timeout: Seconds to retry while another transaction holds a lock.
        warn: Gets a line when a lock has to be waited for.
        take_over: Allow that another application owns the database.

    Yields:
        Each step, once it is committed.

    Raises:
        ConfigError: The file names an object that the database does not have.
        PgreactError: The schema is not pgreact's or another application's, or a lock was not free in time.
    """
    done: list[str] = []
    try:
        for step in execution.execute(
            connection, lambda: plan(connection, settings, take_over=take_over), timeout, warn
        ):
            done.append(str(step))
            yield step
    finally:
        if done:
            _log(connection, done)


def _log(connection: Connection, steps: list[str]) -> None:
    """Record the steps in ``pgreact.event_log``, if the session still works."""
    details = json.dumps({"count": len(steps), "steps": steps[:MOST_LOGGED]})
    with contextlib.suppress(psycopg.Error):
        connection.execute("select pgreact.log_event('schema.applied', current_database(), %s)", (details,))


def dry_run(
    connection: Connection, settings: Settings, warn: Callable[[str], None], *, take_over: bool = False
) -> list[Change]:
    """Try the steps of :func:`apply` in a transaction that is rolled back.

    Args:
        connection: A session in autocommit mode, with the rights that ``apply`` needs.
        settings: The configuration.
        warn: Gets a line for each step that could not be tried.
        take_over: Allow that another application owns the database.

    Returns:
        All steps.

    Raises:
        ConfigError: The file does not fit the database; one line for each route.
        PgreactError: As ``apply``, or a right is missing.
    """
    return execution.dry_run(connection, lambda: plan(connection, settings, take_over=take_over), warn)


def delta(connection: Connection, settings: Settings, warn: Callable[[str], None]) -> str:
    """Return the steps of :func:`apply` as plain SQL.

    Args:
        connection: A session in autocommit mode, with the rights that ``apply`` needs.
        settings: The configuration.
        warn: Gets a line for each step that could not be tried.

    Raises:
        ConfigError: The file names an object that the database does not have.
        PgreactError: The schema is not pgreact's or another application's.
    """
    steps = plan(connection, settings)
    if (
        steps
        and migrations.applied(connection)
        and all(step.what.startswith("schema pgreact: ") for step in steps)
    ):
        steps = dry_run(connection, settings, warn)  # the rest can only be planned once these have run
    titles: dict[str, list[str]] = {}
    for step in steps:
        titles.setdefault(step.statement, []).append(f"-- {step}")
    return "\n".join(
        "\n".join([*lines, "", statement.rstrip().rstrip(";") + ";\n"]) for statement, lines in titles.items()
    )


def uninstall_plan(connection: Connection) -> list[Change]:
    """Return the steps that remove all objects of pgreact from a database."""
    triggers = connection.execute(query("foreign_triggers")).fetchall()
    changes = [
        Change("-", f"trigger {name} on {table}", f"drop trigger {_quoted(name)} on {table}")
        for table, name in triggers
    ]
    if connection.execute("select to_regnamespace('pgreact') is not null").fetchall()[0][0]:
        migrations.applied(connection)
        changes.append(Change("-", "schema pgreact", "drop schema pgreact cascade"))
    return changes


def uninstall_script() -> str:
    """Return the removal as plain SQL, which finds the triggers when it runs."""
    return query("uninstall").replace("{foreign_triggers}", query("foreign_triggers").rstrip())


def uninstall(connection: Connection, timeout: float, warn: Callable[[str], None]) -> Iterator[Change]:
    """Remove all objects of pgreact from a database.

    Args:
        connection: A session in autocommit mode, whose role owns the schema and the tables.
        timeout: Seconds to retry while another transaction holds a lock.
        warn: Gets a line when a lock has to be waited for.

    Yields:
        Each step, once it is committed.

    Raises:
        PgreactError: The schema is not pgreact's, or a lock was not free in time.
    """
    return execution.execute(connection, lambda: uninstall_plan(connection), timeout, warn)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
