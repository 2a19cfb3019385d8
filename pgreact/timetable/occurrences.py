"""When a schedule runs next, and where the clocks of its time zone change in between."""

import datetime
import zoneinfo
from typing import Any

from pgreact.timetable import row
from pgreact.timetable.planner import Schedule, actual, following, plan
from pgreact.timetable.recurrence import RecurrenceError

_MICROSECOND = datetime.timedelta(microseconds=1)
_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def coming(found: dict[str, Any], now: datetime.datetime, count: int) -> list[dict[str, Any]]:
    """Compute the next occurrences of a schedule.

    Args:
        found: Its row of ``pgreact.schedule``.
        now: The database's clock.
        count: So many at most.

    Returns:
        For each ``nominal_at`` in the schedule's time zone; ``run_at``, which jitter puts off; and
        ``clocks_change``: how the offset differs from that of the one before, if it does.

    Raises:
        RecurrenceError: They cannot be told.
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
                "clocks_change": f"{_named(before)} → {_named(offset)}"
                if before not in {None, offset}
                else None,
            }
        )
        before = offset
    return ahead


def zone_of(found: dict[str, Any]) -> datetime.tzinfo:
    """Return the time zone of a schedule; UTC where this machine has none of its name."""
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
        # somebody said when it runs next, and what follows is planned only then
        moment = following(schedule, max(now, schedule.last_nominal_at or _BEGINNING))
    while moment is not None and len(times) < count:
        times.append(moment)
        moment = following(schedule, moment)
    return times[: max(count, 0)]


def _schedule(found: dict[str, Any], now: datetime.datetime) -> Schedule:
    if not found["enabled"]:  # it is planned anew when it is enabled, and what fell due is not made up for
        found = {**found, "state": "new", "next_nominal_at": None, "next_run_at": None}
        if found["at"] is not None and found["at"] <= now:
            found["last_nominal_at"] = max(found["at"], found["last_nominal_at"] or found["at"])
    every_us = None if found["every"] is None else found["every"] // _MICROSECOND
    anchor = found["anchor"] or found["start_at"] or found["created_at"]
    return row.schedule({**found, "every_us": every_us, "anchor": anchor})


def _named(offset: datetime.timedelta | None) -> str:
    return str(datetime.timezone(offset or datetime.timedelta()))
