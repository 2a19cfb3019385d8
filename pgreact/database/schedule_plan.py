"""What must change so that schedules are as the configuration says."""

import datetime
import json
from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg import sql

from pgreact.database import schedule_blueprint
from pgreact.database.change import Change, Connection, rows, savepoint
from pgreact.database.refusal import refusal
from pgreact.errors import ConfigError
from pgreact.schedule_settings import WAYS, ScheduleSettings
from pgreact.settings import Settings, nearest, quoted
from pgreact.shipped import query
from pgreact.units import short

_WIDTH = 60  # characters of a value in a line

Entries = Mapping[str, ScheduleSettings]


def schedule_changes(
    connection: Connection, settings: Settings, lanes: Collection[str], *, empty: bool
) -> dict[str, Change]:
    """Compare the schedules of a database with the configuration.

    Args:
        connection: Any session on it.
        settings: What they should be. What was changed in SQL is left, until the file's own entry changes.
        lanes: Those there will be.
        empty: pgreact's schema is yet to be made.

    Returns:
        The changes, by the schedule's name. They share one statement: there may be very many.

    Raises:
        ConfigError: The file has an entry that the database refuses; one line for each.
    """
    _refuse_lanes(settings, lanes)
    if empty:
        found, wanted = {}, settings.schedules
        gone: list[str] = []
    else:
        entries = [{"name": name, "entry": entry.entry()} for name, entry in settings.schedules.items()]
        different = rows(connection, query("schedule_differences"), {"entries": json.dumps(entries)})
        found = {row["name"]: row for row in different if row["name"] is not None}
        names = {row["named"] for row in different}
        wanted = {name: entry for name, entry in settings.schedules.items() if name in names}
        gone = [row["name"] for row in different if row["named"] is None]
        if mistakes := _mistakes(connection, list(wanted.items()), str(settings.file or "configuration")):
            raise ConfigError("\n".join(mistakes))
    statement = schedule_blueprint.statement(wanted, gone)
    locked = ("pgreact.schedule",)
    changes = {name: Change("-", f"schedule {_title(name)}", statement, tables=locked) for name in gone}
    for name, entry in wanted.items():
        now = found.get(name)
        what = f"{recurs(entry.model_dump())} runs {entry.task}" if now is None else _difference(now, entry)
        sign = "~" if now else "+"
        changes[name] = Change(sign, f"schedule {_title(name)}: {what}", statement, tables=locked)
    return changes


def recurs(columns: Mapping[str, Any]) -> str:
    """Return what recurs, like ``every 30s``.

    Args:
        columns: A schedule's; ``every`` in seconds or as a ``timedelta``.
    """
    way = next(way for way in WAYS if columns[way] is not None)
    return f"{way} {_shown(columns[way])}"


def _refuse_lanes(settings: Settings, lanes: Collection[str]) -> None:
    lines = [
        f'{settings.file or "configuration"}: schedules.{quoted(name)}.lane: no lane "{entry.lane}"'
        + nearest(entry.lane, sorted(lanes))
        for name, entry in settings.schedules.items()
        if entry.delivery == "queue" and entry.lane is not None and entry.lane not in lanes
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _mistakes(connection: Connection, entries: list[tuple[str, ScheduleSettings]], file: str) -> list[str]:
    """Let the database judge many at once; what it refuses is looked for by halves."""
    # the lanes may not be there yet
    judged = json.dumps([{**schedule_blueprint.row(name, entry), "lane": None} for name, entry in entries])
    try:
        with savepoint(connection):
            connection.execute(
                sql.SQL("select pgreact.check_schedule(f) from {} f").format(
                    schedule_blueprint.record(judged)
                )
            )
    except psycopg.errors.InsufficientPrivilege:
        return []  # a role that may only compare
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
    told = []
    if now["origin"] != "config":
        told.append(f"origin {now['origin']} → config")
    before, after = recurs(now), recurs(then)
    if before != after:
        way, _, value = after.partition(" ")
        told.append(f"{before} → {value if before.startswith(f'{way} ') else after}")
    told += [
        f"{key} {_shown(now[key])} → {_shown(then[key])}"
        for key in schedule_blueprint.MANAGED
        if key not in WAYS and _plain(now[key]) != then[key]
    ]
    return ", ".join(told) or "as the file has it already"


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, datetime.timedelta) else value


def _shown(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    plain = isinstance(value, str) and value and value.isprintable()
    text = value if plain else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _title(name: str) -> str:
    return name if name.isprintable() else json.dumps(name, ensure_ascii=False)
