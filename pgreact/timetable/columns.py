"""Columns of ``pgreact.schedule`` as JSON has them."""

import datetime
from collections.abc import Mapping
from typing import Any

from pgreact.timetable.planner import Schedule
from pgreact.timetable.recurrence import Recurrence


def recurrence(columns: Mapping[str, Any], anchor: datetime.datetime) -> Recurrence:
    """Return what columns say about when.

    Args:
        columns: As ``entries.row`` makes them; ``grid`` is the anchor that their source tells.
        anchor: Where they name none.
    """
    every = columns.get("every")
    return Recurrence(
        every_us=None if every is None else round(every * 1_000_000),
        cron=columns.get("cron"),
        cron_and=columns.get("cron_and", False),
        at=moment(columns.get("at")),
        solar=columns.get("solar"),
        rrule=columns.get("rrule"),
        timezone=columns.get("timezone", "UTC"),
        anchor=moment(columns.get("grid") or columns.get("anchor")) or anchor,
    )


def schedule(columns: Mapping[str, Any], begin: datetime.datetime) -> Schedule:
    """Return the schedule that columns describe, as nobody has planned it yet.

    Args:
        columns: As for :func:`recurrence`.
        begin: Where an interval begins that has neither an anchor nor a start.
    """
    start_at = moment(columns.get("start_at"))
    return Schedule(
        id=0,
        name=columns["name"],
        turn=0,
        state="new",
        recurrence=recurrence(columns, start_at or begin),
        start_at=start_at,
        end_at=moment(columns.get("end_at")),
    )


def moment(text: str | None) -> datetime.datetime | None:
    """Read a moment in ISO 8601, if there is one."""
    return None if text is None else datetime.datetime.fromisoformat(text)
