"""Recurrences in words, like ``at 07:00 on weekdays, Europe/Paris``; a rule without words stays as it is."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from cronsim import CronSim, CronSimError

from pgreact.quantities import format_duration
from pgreact.timetable import cron as cron_rules
from pgreact.timetable.occurrences import zone_of
from pgreact.timetable.plan import recurrence_text

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_FREQUENCIES = {"YEARLY": "year", "MONTHLY": "month", "WEEKLY": "week", "DAILY": "day", "HOURLY": "hour"}
_DAYS = {
    "MO": "Monday",
    "TU": "Tuesday",
    "WE": "Wednesday",
    "TH": "Thursday",
    "FR": "Friday",
    "SA": "Saturday",
    "SU": "Sunday",
}
_WEEKDAYS = "MO,TU,WE,TH,FR"
_ORDINALS = {-1: "last", 1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
_MONTHS = [datetime.date(2000, month, 1).strftime("%B") for month in range(1, 13)]
_WORDED = {"FREQ", "INTERVAL", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYHOUR", "BYMINUTE", "BYSECOND", "COUNT"}


def describe(columns: Mapping[str, Any]) -> str:
    """Return the recurrence of a schedule in words.

    Args:
        columns: A schedule's columns; ``every`` in seconds or as a ``timedelta``.
    """
    if (every := columns["every"]) is not None:
        return _every(every.total_seconds() if isinstance(every, datetime.timedelta) else every)
    if (at := columns["at"]) is not None:
        local = at.astimezone(zone_of(columns))
        return (
            f"once, at {local:%Y-%m-%d %H:%M}{f':{local:%S}' if local.second else ''}, {columns['timezone']}"
        )
    if (solar := columns["solar"]) is not None:
        return _solar(solar)
    if (text := columns["cron"]) is not None:
        said = _cron(text, both=columns["cron_and"])
    else:
        said = _rrule(columns["rrule"] or "")
    return f"{said or recurrence_text(columns)}, {columns['timezone']}"


def _every(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            count = int(seconds // size)
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"every {format_duration(seconds)}"


def _solar(text: str) -> str:
    event, *place = text.split()
    kind, _, which = event.lower().partition("_")
    name = f"{which} {kind}" if kind in {"dawn", "dusk"} else event.lower().replace("_", " ")
    return f"at {name} in {' '.join(place)}"


def _cron(text: str, *, both: bool) -> str | None:
    fields = cron_rules.plain_fields(text)
    if fields is None:
        return None
    written = fields[1:] if fields[0] == "0" else fields
    try:
        said = CronSim(" ".join(written), datetime.datetime(2000, 1, 1)).explain()  # noqa: DTZ001  # local time
    except CronSimError:
        return None
    said = f"{said[:1].lower()}{said[1:]}".replace("on Monday through Friday", "on weekdays")
    day, weekday = fields[3], fields[5]
    if day != "*" and weekday != "*":
        both = both or day.startswith("*") or weekday.startswith("*")
        said = said.replace(" and on ", ", if also on " if both else " or on ")
    return said


def _rrule(text: str) -> str | None:
    pairs = (part.partition("=") for part in text.upper().removeprefix("RRULE:").split(";") if part)
    parts = {name: value for name, _, value in pairs}
    times = [parts.get(name, "0").split(",") for name in ("BYHOUR", "BYMINUTE", "BYSECOND")]
    if not set(parts) <= _WORDED or parts.get("FREQ") not in _FREQUENCIES or len(times[1] + times[2]) > 2:
        return None
    unit, interval = _FREQUENCIES[parts["FREQ"]], parts.get("INTERVAL", "1")
    said = f"every {unit}" if interval == "1" else f"every {interval} {unit}s"
    if "BYMONTH" in parts:
        said += f" in {_joined([_MONTHS[int(month) - 1] for month in parts['BYMONTH'].split(',')])}"
    if "BYMONTHDAY" in parts:
        said += f" on {_joined([_month_day(int(day)) for day in parts['BYMONTHDAY'].split(',')])}"
    if parts.get("BYDAY") == _WEEKDAYS:
        said += " on weekdays"
    elif "BYDAY" in parts:
        said += f" on {_joined([_day(day) for day in parts['BYDAY'].split(',')])}"
    if "BYHOUR" in parts:
        second = f":{int(times[2][0]):02}" if times[2] != ["0"] else ""
        clock = [f"{int(hour):02}:{int(times[1][0]):02}{second}" for hour in times[0]]
        said += f" at {_joined(clock)}"
    return said + (f", {parts['COUNT']} times" if "COUNT" in parts else "")


def _month_day(day: int) -> str:
    return "the last day" if day == -1 else f"day {day}" if day > 0 else f"day {-day} before the end"


def _day(text: str) -> str:
    number, name = text[:-2], _DAYS[text[-2:]]
    if not number:
        return name
    return f"the {_ORDINALS.get(int(number), f'{int(number)}.')} {name}"


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
