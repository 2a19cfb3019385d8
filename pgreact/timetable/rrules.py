"""Rules of ``dateutil`` as RFC 5545 writes them."""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from pgreact.timetable.zones import zone_name

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LISTS = (
    "bysetpos",
    "bymonth",
    "bymonthday",
    "byyearday",
    "byeaster",
    "byweekno",
    "byhour",
    "byminute",
    "bysecond",
)


def recurrence(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Write a rule as columns of ``pgreact.schedule``.

    Args:
        rule: The arguments of ``dateutil.rrule.rrule``, by name; ``dtstart`` with its time zone.

    Returns:
        ``rrule``, or ``every`` (seconds) where it is only that; ``anchor``; ``timezone``.

    Raises:
        ValueError: No column can say it.
    """
    start, until = rule.get("dtstart"), rule.get("until")
    if not isinstance(start, datetime.datetime) or start.tzinfo is None:
        raise ValueError("its rrule has no dtstart with a time zone")
    zone = zone_name(start.tzinfo)
    if zone is None:
        raise ValueError(
            f"its rrule is read at {start:%z} from UTC, which is no time zone by name: write it anew with one"
        )
    frequency = rule["freq"]
    frequency = _FREQUENCIES[frequency] if isinstance(frequency, int) else str(frequency).upper()
    given = {name: rule[name] for name in (*_LISTS, "byweekday") if rule.get(name) is not None}
    columns = {"anchor": start.isoformat(), "timezone": zone}
    if frequency in {"MINUTELY", "SECONDLY"}:
        if given or until or rule.get("count"):
            raise ValueError(f"an rrule with FREQ={frequency} cannot be carried; write it as every or cron")
        return {"every": (rule.get("interval") or 1) * (60 if frequency == "MINUTELY" else 1), **columns}
    parts = [f"FREQ={frequency}"]
    if (rule.get("interval") or 1) != 1:
        parts.append(f"INTERVAL={rule['interval']}")
    if rule.get("wkst") is not None:
        parts.append(f"WKST={_day(rule['wkst'])}")
    if rule.get("count") is not None:
        parts.append(f"COUNT={rule['count']}")
    if until is not None:
        parts.append(f"UNTIL={until.astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}")
    for name, value in given.items():
        if name == "byweekday":
            parts.append(f"BYDAY={','.join(map(_day, _list(value)))}")
        else:
            parts.append(f"{name.upper()}={','.join(map(str, _list(value)))}")
    return {"rrule": ";".join(parts), **columns}


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) else [value]


def _day(value: Any) -> str:
    number, nth = (value, None) if isinstance(value, int) else (value.weekday, value.n)
    return f"{nth or ''}{_DAYS[number]}"
