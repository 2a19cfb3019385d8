"""The SQL that makes pgreact's schema, its routes and its triggers, as plain text."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from pgreact.database import installation, queue_blueprint, schedule_blueprint
from pgreact.errors import ConfigError
from pgreact.settings import RouteSettings, Settings, Watch
from pgreact.shipped import folder

FUNCTIONS = "functions"  # their row in pgreact.migration
# pgreact.lock_class('apply') says the same; it is needed before that function exists
APPLY_LOCK = "select pg_advisory_xact_lock(1885827687, 0)"


@dataclasses.dataclass(frozen=True)
class Migration:
    """One step of the schema: a numbered file, or all functions together."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Tells whether the text was changed since it ran."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def script(self) -> str:
        """The step and the record that it was taken."""
        record = sql.SQL(
            "insert into pgreact.migration (name, checksum) values ({}, {}) "
            "on conflict (name) do update set checksum = excluded.checksum, applied_at = now();"
        ).format(self.name, self.checksum)
        return f"{self.text.rstrip()}\n\n{record.as_string()}"


def migrations() -> list[Migration]:
    """Return the numbered migrations in order."""
    files = sorted((folder("sql") / "migrations").glob("*.sql"))
    return [Migration(file.stem, file.read_text(encoding="utf-8")) for file in files]


def functions() -> Migration:
    """Return all functions as one step, which is taken anew whenever one of them changes."""
    files = sorted((folder("sql") / "functions").glob("*.sql"))
    return Migration(FUNCTIONS, "\n".join(file.read_text(encoding="utf-8") for file in files))


def route_columns(route: RouteSettings) -> dict[str, Any]:
    """Return the columns of ``pgreact.route`` for a route of the file; times in seconds."""
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
    """Return the statement that makes a route as the file names it."""
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
    """Return the statements that watch a table as the file says.

    Args:
        table: Its full, quoted name, or what the file has.
        route: Its name.
        events: Those of the entry that are to be attached.
        watch: The entry.
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


def script(settings: Settings, since: int) -> str:
    """Return all of it, for somebody's own migration tool.

    Args:
        settings: Its routes, lanes, outbox and schedules are included.
        since: Leave out the migrations up to this number, which have run already.

    Raises:
        ConfigError: There is no such migration.
    """
    steps = migrations()
    if not 0 <= since <= len(steps):
        raise ConfigError(f"--since {since}: the last migration is {len(steps)}")
    parts = [f"-- {step.name}\n\n{step.script}" for step in [*steps[since:], functions()]]
    if settings.belongs_to is not None:
        parts.append(f"-- application\n\n{installation.script(settings.belongs_to)}")
    for name, route in settings.routes.items():
        parts.append(f"-- route {name}\n\n{route_statement(name, route)}")
        parts.extend(attach_statement(watch.table, name, watch.on, watch) for watch in route.tables)
    parts += queue_blueprint.script(settings) + schedule_blueprint.script(settings)
    return "\n\n".join(parts) + "\n"


def _literal(column: str, value: Any) -> sql.Composable:
    if column == "options":
        return sql.Literal(json.dumps(value))
    if isinstance(value, float):
        return sql.SQL("make_interval(secs => {})").format(value)
    return sql.Literal(value)
