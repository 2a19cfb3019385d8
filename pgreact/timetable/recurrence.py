"""Recurrence: the next occurrence after a moment. A pure function, no clock, no I/O."""

import dataclasses
from datetime import UTC, datetime, timedelta

from pgreact.errors import PgreactError
from pgreact.quantities import format_duration
from pgreact.timetable import cron, rrule, solar


class RecurrenceError(PgreactError):
    """The recurrence cannot be computed; the message quotes it and names the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recurrence:
    """A recurrence: exactly one of ``every_us``, ``cron``, ``at``, ``solar`` and ``rrule`` is set.

    Attributes:
        every_us: A period in microseconds: the grid ``anchor + k * every_us`` with k from 1 on.
        cron: A cron expression: see ``cron``.
        cron_and: Its day of month and day of week must both match.
        at: The only occurrence.
        solar: ``EVENT LATITUDE LONGITUDE``: see ``solar``.
        rrule: A rule of RFC 5545: see ``rrule``.
        timezone: The IANA name of the time zone of ``cron`` and ``rrule``.
        anchor: Where the grid of ``every_us``, or an ``rrule``, begins.
    """

    every_us: int | None = None
    cron: str | None = None
    cron_and: bool = False
    at: datetime | None = None
    solar: str | None = None
    rrule: str | None = None
    timezone: str = "UTC"
    anchor: datetime


def next_after(recurrence: Recurrence, after: datetime) -> datetime | None:
    """Return the first occurrence strictly later than a moment.

    Returns:
        A moment in UTC; ``None``: never again.

    Raises:
        RecurrenceError: The recurrence is wrong, or needs a library that is not installed.
    """
    try:
        return _next(recurrence, after.astimezone(UTC))
    except OverflowError:
        return None  # beyond the year 9999
    except ValueError as error:
        raise RecurrenceError(str(error)) from error


def _next(recurrence: Recurrence, after: datetime) -> datetime | None:
    if recurrence.every_us is not None:
        return _on_grid(recurrence.anchor, timedelta(microseconds=recurrence.every_us), after)
    if recurrence.at is not None:
        return recurrence.at if recurrence.at > after else None
    if recurrence.solar is not None:
        return solar.next_after(recurrence.solar, after)
    after = after.replace(microsecond=0)  # so that more calls hit the caches
    if recurrence.cron is not None:
        return cron.next_after(recurrence.cron, recurrence.cron_and, recurrence.timezone, after)
    if recurrence.rrule is not None:
        return rrule.next_after(recurrence.rrule, recurrence.timezone, recurrence.anchor, after)
    raise ValueError("no recurrence: set one of every, cron, at, solar and rrule")


def _on_grid(anchor: datetime, every: timedelta, after: datetime) -> datetime:
    if every <= timedelta(0):
        raise ValueError(f"every must be positive, not {format_duration(every.total_seconds())}")
    steps = max((after - anchor) // every + 1, 1)
    return (anchor + steps * every).astimezone(UTC)
