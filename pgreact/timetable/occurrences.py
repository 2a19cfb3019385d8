"""The next occurrences of a schedule, and where the clocks of its time zone change in between."""

import datetime
import zoneinfo
from collections.abc import Mapping
from typing import Any

from pgreact.timetable.planner import Schedule, actual, following, plan
from pgreact.timetable.recurrence import RecurrenceError
from pgreact.timetable.schedule_row import from_record
from pgreact.timetable.settings import ScheduleSettings

_MICROSECOND = datetime.timedelta(microseconds=1)
_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def next_occurrences(found: dict[str, Any], now: datetime.datetime, count: int) -> list[dict[str, Any]]:
    """Compute the next occurrences of a schedule.

    Args:
        found: Its row of ``pgreact.schedule``.
        now: The database's clock.
        count: How many at most.

    Returns:
        For each, ``nominal_at`` in the schedule's time zone; ``run_at``, which is later by the jitter; and
        ``clocks_change``: the old and new offset from UTC, if it differs from the previous occurrence's.

    Raises:
        RecurrenceError: They cannot be computed.
    """
    schedule = _schedule(found, now)
    zone = zone_of(found)
    ahead = []
    last = schedule.last_nominal_at
    before = last.astimezone(zone).utcoffset() if last else None
    for nominal in _times(schedule, now, count):
        shown = nominal.astimezone(zone)
        offset = shown.utcoffset()
        ahead.append(
            {
                "nominal_at": shown,
                "run_at": actual(schedule.name, nominal, schedule.jitter),
                "clocks_change": f"{_offset_text(before)} → {_offset_text(offset)}"
                if before not in {None, offset}
                else None,
            }
        )
        before = offset
    return ahead


def preview(
    name: str,
    schedule: ScheduleSettings,
    now: datetime.datetime,
    count: int,
    row: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Compute the next occurrences of a schedule that is not written yet.

    Args:
        name: Its name, by which jitter is spread.
        schedule: What it will be.
        now: The database's clock.
        count: How many at most.
        row: The row that it will change; ``None``: it is new.

    Returns:
        As :func:`next_occurrences`.

    Raises:
        RecurrenceError: They cannot be computed.
    """
    new = {"id": 0, "revision": 0, "created_at": now, "run_count": 0, "last_nominal_at": None}
    wanted = schedule.model_dump()
    durations = {key: datetime.timedelta(seconds=wanted[key] or 0) for key in ("jitter", "grace")}
    every = None if schedule.every is None else datetime.timedelta(seconds=schedule.every)
    planned = {"state": "new", "next_nominal_at": None, "next_run_at": None, "enabled": True}
    found = {**new, **(row or {}), **wanted, **durations, "every": every, "name": name, **planned}
    return next_occurrences(found, now, count)


def zone_of(found: Mapping[str, Any]) -> datetime.tzinfo:
    """Return the time zone of a schedule; UTC if this machine does not know it."""
    try:
        return zoneinfo.ZoneInfo(found["timezone"])
    except (KeyError, ValueError, OSError):
        return datetime.UTC


def _times(schedule: Schedule, now: datetime.datetime, count: int) -> list[datetime.datetime]:
    ahead = plan(schedule, now)
    if ahead.error:
        raise RecurrenceError(ahead.error)
    if schedule.max_runs is not None:
        count = min(count, schedule.max_runs - schedule.run_count)
    times = [] if ahead.manual else [*ahead.occurrences]
    moment = ahead.next_nominal_at
    if moment is None and ahead.state == "planned":
        # next_run_at was set by hand; the occurrence after it is planned when it fires
        moment = following(schedule, max(now, schedule.last_nominal_at or _BEGINNING))
    while moment is not None and len(times) < count:
        times.append(moment)
        moment = following(schedule, moment)
    return times[: max(count, 0)]


def _schedule(found: dict[str, Any], now: datetime.datetime) -> Schedule:
    if not found["enabled"]:  # enabling plans it anew, and does not make up for what fell due
        found = {**found, "state": "new", "next_nominal_at": None, "next_run_at": None}
        if found["at"] is not None and found["at"] <= now:
            found["last_nominal_at"] = max(found["at"], found["last_nominal_at"] or found["at"])
    every_us = None if found["every"] is None else found["every"] // _MICROSECOND
    anchor = found["anchor"] or found["start_at"] or found["created_at"]
    return from_record({**found, "every_us": every_us, "anchor": anchor})


def _offset_text(offset: datetime.timedelta | None) -> str:
    return str(datetime.timezone(offset or datetime.timedelta()))
