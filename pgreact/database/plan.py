"""What must change so that a database is as the configuration says."""

from collections.abc import Callable, Iterator

from psycopg import sql

from pgreact.database import blueprint, installation
from pgreact.database.change import Change, Connection, rows
from pgreact.database.left_behind import repairs
from pgreact.database.queue_plan import queue_changes
from pgreact.database.route_plan import existing_routes, route_changes
from pgreact.database.steps import rehearse, take
from pgreact.errors import PgreactError
from pgreact.settings import Settings
from pgreact.shipped import query


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
    existing = existing_routes(connection) if applied else {}
    wanted = [
        *route_changes(connection, settings, health, existing),
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
    """Make a database as the configuration says, in short transactions; a route's steps share one.

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
    return take(connection, lambda: plan(connection, settings, take_over=take_over), patience, told)


def trial(
    connection: Connection, settings: Settings, told: Callable[[str], None], *, take_over: bool = False
) -> list[Change]:
    """Find what would be done to make a database as the configuration says, and whether it can be done.

    Args:
        connection: A session in autocommit mode, with the rights that ``apply`` needs.
        settings: What it should be.
        told: Gets a line for what could not be tried.
        take_over: It may belong to another application until then.

    Returns:
        All steps.

    Raises:
        ConfigError: What the file says does not fit the database; one line for each route.
        PgreactError: As ``apply``, or a right is missing.
    """
    return rehearse(connection, lambda: plan(connection, settings, take_over=take_over), told)


def delta(connection: Connection, settings: Settings, told: Callable[[str], None]) -> str:
    """Return as plain SQL what must change so that a database is as the configuration says.

    Raises:
        ConfigError: The file names what the database does not have.
        PgreactError: The schema is not ours or another application's.
    """
    steps = plan(connection, settings)
    if steps and _applied(connection) and all(step.what.startswith("schema pgreact: ") for step in steps):
        steps = trial(connection, settings, told)  # the rest can only be planned once these are taken
    titles: dict[str, list[str]] = {}
    for step in steps:
        titles.setdefault(step.statement, []).append(f"-- {step}")
    return "\n".join(
        "\n".join([*lines, "", statement.rstrip().rstrip(";") + ";\n"]) for statement, lines in titles.items()
    )


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


def uninstall_script() -> str:
    """Return them as plain SQL, for somebody's own migration tool; it finds the triggers when it runs."""
    return query("uninstall").replace("{foreign_triggers}", query("foreign_triggers").rstrip())


def uninstall(connection: Connection, patience: float, told: Callable[[str], None]) -> Iterator[Change]:
    """Remove everything pgreact ever made in a database.

    Raises:
        PgreactError: The schema is not ours, or a lock could not be had.
    """
    return take(connection, lambda: uninstall_plan(connection), patience, told)


def _applied(connection: Connection) -> dict[str, str]:
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
