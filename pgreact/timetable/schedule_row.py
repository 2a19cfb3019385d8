"""Rows of ``pgreact.schedule`` as the planner's ``Schedule``: read from the table, or from an importer."""

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgreact.timetable.planner import Schedule
from pgreact.timetable.recurrence import Recurrence

if TYPE_CHECKING:  # the command line reads rows without it
    import asyncpg


def from_record(row: "asyncpg.Record | Mapping[str, Any]") -> Schedule:
    """Return the schedule of a row that ``timetable_due`` or ``timetable_ahead`` read."""
    return Schedule(
        id=row["id"],
        name=row["name"],
        revision=row["revision"],
        state=row["state"],
        recurrence=Recurrence(
            every_us=row["every_us"],
            cron=row["cron"],
            cron_and=row["cron_and"],
            at=row["at"],
            solar=row["solar"],
            rrule=row["rrule"],
            timezone=row["timezone"],
            anchor=row["anchor"],
        ),
        start_at=row["start_at"],
        end_at=row["end_at"],
        max_runs=row["max_runs"],
        run_count=row["run_count"],
        jitter=row["jitter"],
        misfire=row["misfire"],
        grace=row["grace"],
        catch_up=row["catch_up"],
        next_nominal_at=row["next_nominal_at"],
        next_run_at=row["next_run_at"],
        last_nominal_at=row["last_nominal_at"],
    )


def from_columns(columns: Mapping[str, Any], begin: datetime.datetime) -> Schedule:
    """Return the schedule of an importer's columns, not planned yet.

    Args:
        columns: As ``importers.entries.row`` makes them, in JSON's types: moments in ISO 8601, seconds.
        begin: Where an interval begins that has neither an anchor nor a start.
    """
    start_at = parse_moment(columns.get("start_at"))
    return Schedule(
        id=0,
        name=columns["name"],
        revision=0,
        state="new",
        recurrence=recurrence(columns, start_at or begin),
        start_at=start_at,
        end_at=parse_moment(columns.get("end_at")),
    )


def recurrence(columns: Mapping[str, Any], anchor: datetime.datetime) -> Recurrence:
    """Return the recurrence of an importer's columns.

    Args:
        columns: As for :func:`from_columns`; ``grid`` is the anchor that the source implies.
        anchor: Of columns that have none.
    """
    every = columns.get("every")
    return Recurrence(
        every_us=None if every is None else round(every * 1_000_000),
        cron=columns.get("cron"),
        cron_and=columns.get("cron_and", False),
        at=parse_moment(columns.get("at")),
        solar=columns.get("solar"),
        rrule=columns.get("rrule"),
        timezone=columns.get("timezone", "UTC"),
        anchor=parse_moment(columns.get("grid") or columns.get("anchor")) or anchor,
    )


def parse_moment(text: str | None) -> datetime.datetime | None:
    """Parse a moment in ISO 8601; ``None`` stays ``None``."""
    return None if text is None else datetime.datetime.fromisoformat(text)
