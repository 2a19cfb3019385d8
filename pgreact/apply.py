"""The plan that brings a database to the configuration: composed of the parts' plans, and executed."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pgreact.errors import ConfigError, PgreactError
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
    applied = _applied(connection)
    owner = installation.changes(connection, settings.belongs_to, take_over=take_over, empty=not applied)
    steps = migrations.migrations()
    known = {step.name for step in steps} | {migrations.FUNCTIONS}
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
    functions = migrations.functions()
    if applied.get(functions.name) != functions.checksum:
        sign = "~" if functions.name in applied else "+"
        changes.append(Change(sign, "schema pgreact: functions", functions.script))
    if applied and changes:
        return changes  # the rest is compared by functions that these steps install
    health = rows(connection, query("trigger_health")) if applied else []
    existing = wakeup_plan.existing_routes(connection) if applied else {}
    routes = wakeup_plan.plan(connection, settings.routes, settings.label, health, existing)
    queue = queue_plan.plan(connection, settings.queue_sections, settings.label, health, empty=not applied)
    schedules = timetable_plan.plan(
        connection, settings.schedules, settings.label, queue.lanes, empty=not applied
    )
    unused = queue_plan.removals(connection, queue.removed, schedules)
    repaired = repairs(connection, lambda: _wanted(connection, settings, existing)) if applied else []
    return [*changes, *owner, *repaired, *routes, *queue.changes, *schedules.values(), *unused]


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
    if settings.belongs_to is not None:
        parts.append(f"-- application\n\n{installation.script(settings.belongs_to)}")
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
    return execution.execute(
        connection, lambda: plan(connection, settings, take_over=take_over), timeout, warn
    )


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
    if steps and _applied(connection) and all(step.what.startswith("schema pgreact: ") for step in steps):
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
        _applied(connection)
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


def _applied(connection: Connection) -> dict[str, str]:
    """Return the checksums of the migrations that have run, by name."""
    there, ours = connection.execute(
        "select to_regnamespace('pgreact') is not null, to_regclass('pgreact.migration') is not null"
    ).fetchall()[0]
    if not there:
        return {}
    if not ours:
        raise PgreactError("there is a schema pgreact that pgreact did not make: rename it first")
    return dict(connection.execute("select name, checksum from pgreact.migration").fetchall())


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
