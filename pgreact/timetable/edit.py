"""Check, add, edit, rename, enable, run and remove schedules by name, in one statement: all, or none."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError
from pgreact.postgres.change import Connection
from pgreact.postgres.refusal import refusal, refusing_function
from pgreact.timetable.plan import columns, insertion, record, row
from pgreact.timetable.settings import WAYS, ScheduleSettings
from pgreact.timetable.views import named


class Refused(ConfigError):
    """The database refuses a schedule.

    Attributes:
        column: The column that is wrong, if it is known.
    """

    def __init__(self, said: str, column: str | None) -> None:
        super().__init__(said)
        self.column = column


# the column that a function of the database checks
_CHECKED = {
    "check_cron": "cron",
    "check_rrule": "rrule",
    "check_solar": "solar",
    "check_timezone": "timezone",
    "check_lane": "lane",
    "check_options": "options",
    "check_calls": "options",
}
# words of other refusals
_SAID = {
    "the name of a schedule": "name",
    "every is": "every",
    "overlap = false": "overlap",
    "ends before it starts": "end_at",
    "the name of a task": "task",
    "args": "args",
}

Rows = dict[str, dict[str, Any]]  # rows before the change, by name


def check(connection: Connection, name: str, schedule: ScheduleSettings) -> None:
    """Let the database check a schedule, unless the role may not call the check; nothing is written.

    Raises:
        Refused: The database would refuse the schedule.
    """
    checked = record(json.dumps([row(name, schedule)]))
    with _refused(), contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(sql.SQL("select pgreact.check_schedule(f) from {} f").format(checked))


def add(connection: Connection, name: str, schedule: ScheduleSettings) -> None:
    """Add a schedule.

    Raises:
        ConfigError: The name exists, or the database refuses the schedule.
    """
    with _refused():
        try:
            connection.execute(insertion(name, schedule))
        except psycopg.errors.UniqueViolation:
            raise Refused(f'schedule "{name}" exists: "pgreact schedule edit" changes it', "name") from None


def edit(connection: Connection, name: str, changes: Mapping[str, Any]) -> None:
    """Update columns of an existing schedule.

    Args:
        connection: A session in autocommit mode.
        name: The schedule's name.
        changes: Keys of an entry and their values. A new recurrence replaces the old one.

    Raises:
        ConfigError: The database refuses the change.
    """
    ways = dict.fromkeys(WAYS) if any(way in changes for way in WAYS) else {}
    changed = columns({**ways, **changes})
    with _refused():
        connection.execute(
            sql.SQL(
                "update pgreact.schedule s\n"
                "set ({columns}) = (select {columns} from jsonb_populate_record(s, {changes}))\n"
                "where s.name = {name}"
            ).format(columns=sql.SQL(", ".join(changed)), changes=json.dumps(changed), name=name)
        )


def rename(connection: Connection, name: str, to: str) -> None:
    """Give a schedule another name. It is planned anew; its history stays under the old one.

    Raises:
        ConfigError: The new name exists, or the database refuses it.
    """
    with _refused():
        try:
            connection.execute("update pgreact.schedule set name = %s where name = %s", (to, name))
        except psycopg.errors.UniqueViolation:
            raise Refused(f'schedule "{to}" exists', "name") from None


def enable(connection: Connection, names: Sequence[str], *, enabled: bool) -> Rows:
    """Enable schedules, which retries those that failed, or disable them.

    Raises:
        ConfigError: A name does not exist, or the database refuses the change.
    """
    found = named(connection, names)
    with _refused():
        connection.execute(
            "update pgreact.schedule set enabled = %s where name = any (%s)", (enabled, [*found])
        )
    return found


def enable_all(connection: Connection, *, enabled: bool) -> int:
    """Enable all disabled schedules, or disable all enabled ones.

    Returns:
        How many were changed.

    Raises:
        ConfigError: The database refuses a change.
    """
    with _refused():
        return connection.execute(
            "update pgreact.schedule set enabled = %(enabled)s where enabled <> %(enabled)s",
            {"enabled": enabled},
        ).rowcount


def run(connection: Connection, names: Sequence[str]) -> Rows:
    """Run schedules once, now, beside their occurrences.

    Raises:
        ConfigError: A name does not exist, or is disabled, or the database refuses the change.
    """
    found = named(connection, names)
    if disabled := [name for name, row in found.items() if not row["enabled"]]:
        raise ConfigError("\n".join(f'"{name}" is disabled: enable it first' for name in disabled))
    with _refused():
        connection.execute(
            "update pgreact.schedule set next_run_at = pgreact.clock_now() where name = any (%s)", ([*found],)
        )
    return found


def remove(connection: Connection, names: Sequence[str]) -> None:
    """Delete schedules; jobs that are already enqueued stay."""
    connection.execute("delete from pgreact.schedule where name = any (%s)", ([*names],))


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        said = refusal(error)
        if said is None:
            raise
        column = _CHECKED.get(refusing_function(error) or "")
        found = (name for words, name in _SAID.items() if words in said)
        raise Refused(said, column or next(found, None)) from None
