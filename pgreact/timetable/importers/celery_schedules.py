"""Convert Celery's schedules (numbers, intervals, crontabs, solar) to the columns of a recurrence."""

import datetime
import decimal
import functools
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule, solar
from celery.utils.time import remaining

from pgreact.timetable.importers.rrule import Rule
from pgreact.timetable.zones import zone_name

Spec = int | str | Iterable[int]  # a field of a crontab, as Celery takes it

_DAY = datetime.timedelta(days=1)
# What Celery and cron read alike. Anything else becomes the list of numbers that Celery computes from it.
_NUMBERS = r"\d+(?:-\d+)?|\*(?:/[1-9]\d?)?"
_WEEKDAY = "(?:sun|mon|tue|wed|thu|fri|sat)"
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
# of each field: its lowest value, how many values it has, and the pattern of an item
FIELDS = {
    "minute": (0, 60, _NUMBERS),
    "hour": (0, 24, _NUMBERS),
    "day_of_month": (1, 31, _NUMBERS),
    "month_of_year": (1, 12, f"{_NUMBERS}|{_MONTH}(?:-{_MONTH})?"),
    "day_of_week": (0, 7, f"{_NUMBERS}|{_WEEKDAY}(?:-{_WEEKDAY})?"),
}
_PLAIN = {name: re.compile(f"(?:{item})(?:,(?:{item}))*") for name, (_, _, item) in FIELDS.items()}


def recurrence_columns(given: object, app: Celery, *, relative: bool = False) -> dict[str, Any]:
    """Return the columns of ``pgreact.schedule`` for a schedule's recurrence.

    Args:
        given: Seconds, a ``timedelta``, a ``datetime`` (once), a ``Rule``, or a schedule of Celery,
            django-celery-beat or RedBeat.
        app: Its time zone counts.
        relative: Rounded to the day, hour or minute; a number and a ``timedelta`` have no such attribute.

    Returns:
        One of ``every`` (seconds), ``cron``, ``at``, ``solar`` and ``rrule``, with the columns that belong to
        it. An interval that Celery rounds also has ``relative``, its seconds: see ``rounded``.

    Raises:
        ValueError: No column can express it.
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
    # Celery rounds the end down to the unit, so the interval is shorter than written
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
        columns: As ``recurrence_columns`` returns them, with ``relative``.
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


def cron(
    minute: Spec, hour: Spec, day_of_month: Spec, month_of_year: Spec, day_of_week: Spec
) -> tuple[str, bool]:
    """Write a crontab as a cron expression of five fields; the arguments are in cron's order.

    Returns:
        The expression; and whether day of month and day of week must both match, as Celery demands.

    Raises:
        ValueError: A field matches nothing, or Celery refuses it.
    """
    days, weekdays = _cron_field("day_of_month", day_of_month), _cron_field("day_of_week", day_of_week)
    times = f"{_cron_field('minute', minute)} {_cron_field('hour', hour)}"
    text = f"{times} {days} {_cron_field('month_of_year', month_of_year)} {weekdays}"
    return text, days != "*" != weekdays


def _cron_field(name: str, spec: Spec) -> str:
    return _from_text(name, spec) if isinstance(spec, str) else _numbers(name, spec)


@functools.lru_cache(maxsize=1024)
def _from_text(name: str, spec: str) -> str:
    numbers = _numbers(name, spec)
    return spec.lower() if numbers != "*" and _PLAIN[name].fullmatch(spec.lower()) else numbers


def _numbers(name: str, spec: Spec) -> str:
    low, size, _ = FIELDS[name]
    try:
        values = {int(value) for value in crontab._expand_cronspec(spec, size, low)}  # type: ignore[attr-defined]
    except Exception as error:
        # exceptions of Celery's own, among others
        raise ValueError(f'its {name} is "{spec}": {" ".join(str(error).split())}') from error
    if not values:
        raise ValueError(f"its {name} matches nothing")
    return "*" if len(values) == size else ",".join(map(str, sorted(values)))


def _crontab(given: Any, app: Celery) -> dict[str, Any]:
    text, both = cron(**{name: _field(given, name) for name in FIELDS})
    columns: dict[str, Any] = {"cron": text}
    if both:
        columns["cron_and"] = True
    # django-celery-beat's crontab has a zone of its own
    columns["timezone"] = _zone(given.tz if "tz" in vars(given) else app.timezone)
    # Celery skips late occurrences of crontabs only
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
