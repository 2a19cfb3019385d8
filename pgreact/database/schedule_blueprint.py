"""The SQL that makes schedules as the configuration says, as plain text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from pgreact.schedule_settings import ScheduleSettings
from pgreact.settings import Settings
from pgreact.units import short

MANAGED = tuple(ScheduleSettings.model_fields)  # the columns that an entry of the file decides
_INTERVALS = ("every", "jitter", "grace", "expires", "history")


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of an entry as columns, ready for JSON: what is in seconds becomes an interval."""
    return {
        key: short(value) if key in _INTERVALS and value is not None else value
        for key, value in values.items()
    }


def row(name: str, schedule: ScheduleSettings) -> dict[str, Any]:
    """Return a schedule's columns as far as they are not the usual ones, ready for JSON."""
    return {"name": name, **columns(schedule.model_dump(mode="json", exclude_defaults=True))}


def record(rows: str) -> sql.Composed:
    """Return an SQL expression: the set of ``pgreact.schedule`` that a JSON array of such rows means."""
    usual = {
        key: field.default
        for key, field in ScheduleSettings.model_fields.items()
        if not field.is_required() and field.default is not None
    }
    return sql.SQL("jsonb_populate_recordset(jsonb_populate_record(null::pgreact.schedule, {}), {})").format(
        json.dumps(columns(usual)), rows
    )


def insertion(name: str, schedule: ScheduleSettings) -> sql.Composed:
    """Return the statement that adds a schedule which is not the configuration's."""
    return sql.SQL(
        "insert into pgreact.schedule (name, {columns}) select name, {columns} from {rows}"
    ).format(columns=sql.SQL(", ".join(MANAGED)), rows=record(json.dumps([row(name, schedule)])))


def statement(schedules: Mapping[str, ScheduleSettings], gone: Sequence[str] = ()) -> str:
    """Return the statements that make schedules as the file says, however many they are.

    Args:
        schedules: By name. One that is there already as its entry was written is left alone.
        gone: Names of those that the file no longer has.
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


def script(settings: Settings) -> list[str]:
    """Return all of it, for somebody's own migration tool."""
    return [f"-- schedules\n\n{statement(settings.schedules)}"] if settings.schedules else []
