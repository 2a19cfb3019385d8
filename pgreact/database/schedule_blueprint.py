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


def row(name: str, schedule: ScheduleSettings) -> dict[str, Any]:
    """Return what a schedule has in columns, as far as it differs from what most have; ready for JSON."""
    return {"name": name, **_columns(schedule.model_dump(mode="json", exclude_defaults=True))}


def record(rows: str | sql.Composable) -> sql.Composed:
    """Return an SQL expression: a set of ``pgreact.schedule`` from a JSON array of what ``row`` returns."""
    usual = _columns(
        {
            key: field.default
            for key, field in ScheduleSettings.model_fields.items()
            if not field.is_required()
        }
    )
    return sql.SQL("jsonb_populate_recordset(jsonb_populate_record(null::pgreact.schedule, {}), {})").format(
        json.dumps(usual), rows
    )


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
        lines = ",\n".join(json.dumps(columns, ensure_ascii=False) for columns in rows)
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


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: short(value) if key in _INTERVALS else value
        for key, value in values.items()
        if value is not None
    }
