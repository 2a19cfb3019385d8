"""Celery's schedules as columns that say when."""

import datetime
import decimal
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from celery.schedules import schedule, solar
from celery.utils.time import remaining

from pgreact.timetable.importers.crontab import FIELDS, cron
from pgreact.timetable.importers.rrule import Rule
from pgreact.timetable.zones import zone_name

_DAY = datetime.timedelta(days=1)


def recurring(given: object, app: Celery, *, relative: bool = False) -> dict[str, Any]:
    """Say in columns of ``pgreact.schedule`` when a schedule recurs.

    Args:
        given: Seconds, a ``timedelta``, a ``datetime`` (once), a ``Rule``, or one of the schedules of
            Celery, django-celery-beat and RedBeat.
        app: Whose time zone it is read in.
        relative: Rounded to the day, hour or minute; a number and a ``timedelta`` do not say so themselves.

    Returns:
        One of ``every`` (seconds), ``cron``, ``at``, ``solar`` and ``rrule``, with what goes with it. An
        interval that Celery rounds has ``relative``, its seconds, too: see ``rounded``.

    Raises:
        ValueError: No column can say it.
    """
    if isinstance(given, datetime.timedelta | int | float) and not isinstance(given, bool):
        given = schedule(given, relative)
    if isinstance(given, datetime.datetime):
        return {"at": given.isoformat()}
    if isinstance(given, Rule):
        return given.columns()
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    if kind not in _KINDS:
        raise ValueError(f"its schedule is of type {kind}, which only Celery can run")
    if vars(given).get("nowfun") and kind not in _OWN_NOWFUN:
        raise ValueError("its schedule has a nowfun, which only Celery can call; set the column timezone")
    return _KINDS[kind](given, app)


def _interval(given: Any, app: Celery) -> dict[str, Any]:
    if not isinstance(given.run_every, datetime.timedelta):
        raise TypeError(f"its interval is {given.run_every!r}")
    seconds = given.run_every.total_seconds()
    if not given.relative:
        return {"every": seconds}
    rounded = {"timezone": _zone(app.timezone), "relative": seconds}
    days = int(seconds // 86400)
    if days == 1:
        return {"cron": "0 0 * * *", **rounded}
    if days:
        return {"rrule": f"FREQ=DAILY;INTERVAL={days};BYHOUR=0;BYMINUTE=0;BYSECOND=0", **rounded}
    # Celery rounds down to the unit, and so comes back sooner than it was told
    unit = next((unit for unit in (3600, 60, 1) if seconds >= unit), None)
    return {"every": seconds // unit * unit if unit else seconds, **rounded}


def rounded(
    columns: Mapping[str, Any], since: datetime.datetime
) -> tuple[datetime.datetime, datetime.datetime]:
    """Return where the grid of a relative interval begins, and its first occurrence after a run.

    Celery rounds the end of the interval down to a whole day, hour, minute or second of the local time. The
    first step from a run may therefore be longer than those that follow: the grid begins one usual step
    before its end.

    Args:
        columns: As ``recurring`` makes them, with ``relative``.
        since: The last run.
    """
    start = since.astimezone(zoneinfo.ZoneInfo(columns["timezone"]))
    seconds = columns["relative"]
    left = remaining(start, datetime.timedelta(seconds=seconds), start, relative=True)
    first = since.astimezone(datetime.UTC) + left
    if seconds >= 86400:
        # days of the calendar, which differ in length where clocks change
        return first.astimezone(start.tzinfo) - int(seconds // 86400) * _DAY, first
    return first - datetime.timedelta(seconds=columns["every"]), first


def _crontab(given: Any, app: Celery) -> dict[str, Any]:
    text, both = cron(**{name: _field(given, name) for name in FIELDS})
    columns: dict[str, Any] = {"cron": text}
    if both:
        columns["cron_and"] = True
    # django-celery-beat's knows its own zone
    columns["timezone"] = _zone(given.tz if "tz" in vars(given) else app.timezone)
    # Celery's way to skip what is late is for crontabs only
    if app.conf.beat_cron_starting_deadline is not None:
        columns |= {"misfire": "skip", "grace": app.conf.beat_cron_starting_deadline}
    return columns


def _field(given: Any, name: str) -> Any:
    written = getattr(given, f"_orig_{name}")
    return written if isinstance(written, str) else getattr(given, name)


def _clocked(given: Any, _: Celery) -> dict[str, Any]:
    return {"at": given.clocked_time.isoformat()}


def _solar(given: solar, _: Celery) -> dict[str, Any]:
    return {"solar": f"{given.event} {_degrees(given.lat)} {_degrees(given.lon)}"}


def _degrees(value: Any) -> str:
    return format(decimal.Decimal(str(value)), "f")


def _rrule(given: Any, _: Celery) -> dict[str, Any]:
    return Rule(vars(given)).columns()


def _zone(zone: Any) -> str:
    name = zone_name(zone)
    if name is None:
        raise ValueError(
            f"its time zone, {zone!r}, has no IANA name: set timezone in Celery's configuration to one like "
            "Europe/Paris"
        )
    return name


_KINDS: dict[str, Callable[[Any, Celery], dict[str, Any]]] = {
    "celery.schedules.schedule": _interval,
    "celery.schedules.crontab": _crontab,
    "celery.schedules.solar": _solar,
    "django_celery_beat.tzcrontab.TzAwareCrontab": _crontab,
    "django_celery_beat.clockedschedule.clocked": _clocked,
    "redbeat.schedules.rrule": _rrule,
}
_OWN_NOWFUN = {"django_celery_beat.tzcrontab.TzAwareCrontab"}
