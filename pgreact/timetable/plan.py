"""The plan of schedules: the difference between the configuration and ``pgreact.schedule``, and its SQL."""

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError, nearest, quoted
from pgreact.postgres.change import Change, Connection, rows, savepoint
from pgreact.postgres.queries import query
from pgreact.postgres.refusal import refusal
from pgreact.quantities import format_change, format_duration, format_value
from pgreact.timetable.settings import WAYS, ScheduleSettings

MANAGED = tuple(ScheduleSettings.model_fields)  # the columns that an entry of the file sets
_INTERVALS = ("every", "jitter", "grace", "expires", "retention")

Entries = Mapping[str, ScheduleSettings]


def plan(
    connection: Connection, schedules: Entries, label: str, lanes: Collection[str], *, empty: bool
) -> dict[str, Change]:
    """Compare the schedules of a database with the configuration.

    Args:
        connection: Any session on the database.
        schedules: The wanted schedules, by name. An edit in SQL stays until the entry itself changes.
        label: The file, for errors.
        lanes: The names of the lanes after this plan.
        empty: pgreact's schema does not exist yet.

    Returns:
        The changes, by the schedule's name. They share one statement, since they may be thousands.

    Raises:
        ConfigError: The database refuses entries of the file; one line for each.
    """
    _refuse_lanes(schedules, label, lanes)
    if empty:
        found, wanted = {}, schedules
        gone: list[str] = []
    else:
        entries = [{"name": name, "entry": entry.entry()} for name, entry in schedules.items()]
        different = rows(connection, query("schedule_differences"), {"entries": json.dumps(entries)})
        found = {row["name"]: row for row in different if row["name"] is not None}
        names = {row["named"] for row in different}
        wanted = {name: entry for name, entry in schedules.items() if name in names}
        gone = [row["name"] for row in different if row["named"] is None]
        if mistakes := _mistakes(connection, list(wanted.items()), label):
            raise ConfigError("\n".join(mistakes))
    text = statement(wanted, gone)
    locked = ("pgreact.schedule",)
    changes = {name: Change("-", f"schedule {_title(name)}", text, tables=locked) for name in gone}
    for name, entry in wanted.items():
        now = found.get(name)
        what = (
            f"{recurrence_text(entry.model_dump())} runs {entry.task}"
            if now is None
            else _difference(now, entry)
        )
        sign = "~" if now else "+"
        changes[name] = Change(sign, f"schedule {_title(name)}: {what}", text, tables=locked)
    return changes


def recurrence_text(columns: Mapping[str, Any]) -> str:
    """Return the recurrence as text, like ``every 30s``.

    Args:
        columns: A schedule's columns; ``every`` in seconds or as a ``timedelta``.
    """
    way = next(way for way in WAYS if columns[way] is not None)
    return f"{way} {format_value(columns[way])}"


def _refuse_lanes(schedules: Entries, label: str, lanes: Collection[str]) -> None:
    lines = [
        f'{label}: schedules.{quoted(name)}.lane: no lane "{entry.lane}"' + nearest(entry.lane, sorted(lanes))
        for name, entry in schedules.items()
        if entry.delivery == "queue" and entry.lane is not None and entry.lane not in lanes
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _mistakes(connection: Connection, entries: list[tuple[str, ScheduleSettings]], file: str) -> list[str]:
    """Let the database check all entries at once; search those that it refuses by halves."""
    # the lanes may not exist yet
    checked = json.dumps([{**row(name, entry), "lane": None} for name, entry in entries])
    try:
        with savepoint(connection):
            connection.execute(sql.SQL("select pgreact.check_schedule(f) from {} f").format(record(checked)))
    except psycopg.errors.InsufficientPrivilege:
        return []  # this role may only compare
    except psycopg.Error as error:
        said = refusal(error)
        if said is None:
            raise
        if len(entries) == 1:
            name = entries[0][0]
            said = said.removeprefix(f'schedule "{name}"').lstrip(": ")
            return [f"{file}: schedules.{quoted(name)}: {said}"]
        half = len(entries) // 2
        return [*_mistakes(connection, entries[:half], file), *_mistakes(connection, entries[half:], file)]
    return []


def _difference(now: Mapping[str, Any], entry: ScheduleSettings) -> str:
    then = entry.model_dump()
    parts = []
    if now["origin"] != "config":
        parts.append(f"origin {now['origin']} → config")
    before, after = recurrence_text(now), recurrence_text(then)
    if before != after:
        way, _, value = after.partition(" ")
        parts.append(f"{before} → {value if before.startswith(f'{way} ') else after}")
    parts += [
        format_change(key, now[key], then[key])
        for key in MANAGED
        if key not in WAYS and _plain(now[key]) != then[key]
    ]
    return ", ".join(parts) or "same as in the file"


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, datetime.timedelta) else value


def _title(name: str) -> str:
    return name if name.isprintable() else json.dumps(name, ensure_ascii=False)


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's keys as columns, ready for JSON: seconds become intervals."""
    return {
        key: format_duration(value) if key in _INTERVALS and value is not None else value
        for key, value in values.items()
    }


def row(name: str, schedule: ScheduleSettings) -> dict[str, Any]:
    """Return the columns of a schedule that differ from the defaults, ready for JSON."""
    return {"name": name, **columns(schedule.model_dump(mode="json", exclude_defaults=True))}


def record(rows: str) -> sql.Composed:
    """Return an SQL expression: the rows of ``pgreact.schedule`` that a JSON array of such rows describes."""
    defaults = {
        key: field.default
        for key, field in ScheduleSettings.model_fields.items()
        if not field.is_required() and field.default is not None
    }
    return sql.SQL("jsonb_populate_recordset(jsonb_populate_record(null::pgreact.schedule, {}), {})").format(
        json.dumps(columns(defaults)), rows
    )


def insertion(name: str, schedule: ScheduleSettings) -> sql.Composed:
    """Return the statement that adds a schedule of origin ``sql``."""
    return sql.SQL(
        "insert into pgreact.schedule (name, {columns}) select name, {columns} from {rows}"
    ).format(columns=sql.SQL(", ".join(MANAGED)), rows=record(json.dumps([row(name, schedule)])))


def statement(schedules: Mapping[str, ScheduleSettings], gone: Sequence[str] = ()) -> str:
    """Return the statements that write the file's schedules, two at most.

    Args:
        schedules: By name. A row whose entry has not changed is left alone.
        gone: Names that the file no longer has.
    """
    parts = []
    if gone:
        parts.append(
            sql.SQL("delete from pgreact.schedule\nwhere origin = 'config' and name = any ({});").format(
                [*gone]
            )
        )
    if schedules:
        rows = [{**row(name, entry), "entry": entry.entry()} for name, entry in schedules.items()]
        lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in rows)
        parts.append(
            sql.SQL(
                "insert into pgreact.schedule as s (name, {columns}, origin, entry)\n"
                "select name, {columns}, 'config', entry\n"
                "from {rows}\n"
                "on conflict (name) do update\n"
                "set {sets}, origin = 'config', entry = excluded.entry\n"
                "where s.origin <> 'config' or s.entry is distinct from excluded.entry;"
            ).format(
                columns=sql.SQL(", ".join(MANAGED)),
                rows=record(f"[\n{lines}\n]"),
                sets=sql.SQL(", ".join(f"{column} = excluded.{column}" for column in MANAGED)),
            )
        )
    return sql.SQL("\n").join(parts).as_string()


def script(schedules: Entries) -> list[str]:
    """Return the statements for a migration tool of the user's own."""
    return [f"-- schedules\n\n{statement(schedules)}"] if schedules else []
