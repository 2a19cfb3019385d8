"""Recurrence rules of RFC 5545: RRULE without DTSTART.

``dateutil`` evaluates them in local time, in whole seconds, from the anchor. All local times are fixed: see
``local_time``.
"""

import collections
import contextlib
import functools
import re
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from pgreact.timetable import local_time

# The lowest and highest number of each part; negative numbers count from the end, and 0 is not allowed among
# them.
_NUMBERS = {
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYMONTH": (1, 12),
    "BYMONTHDAY": (-31, 31),
    "BYSECOND": (0, 59),
    "BYSETPOS": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYYEARDAY": (-366, 366),
    "COUNT": (1, 100_000),
    "INTERVAL": (1, 100_000),
}
_DAY = "(MO|TU|WE|TH|FR|SA|SU)"
_PATTERNS = {
    "FREQ": "YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY",
    "UNTIL": "[0-9]{8}(T[0-9]{6}Z?)?",
    "BYDAY": rf"([+-]?[1-9][0-9]?)?{_DAY}(,([+-]?[1-9][0-9]?)?{_DAY})*",
    "WKST": _DAY,
} | dict.fromkeys(_NUMBERS, r"[+-]?[0-9]{1,6}(,[+-]?[0-9]{1,6})*")
_HINTS = {
    "FREQ": "YEARLY, MONTHLY, WEEKLY, DAILY or HOURLY; for less than an hour use every or cron",
    "UNTIL": "20270131, 20270131T093000 or, in UTC, 20270131T083000Z",
    "BYDAY": "MO, TU and so on, with a number in front for YEARLY and MONTHLY: -1FR is the last Friday",
    "WKST": "MO, TU and so on",
    "COUNT": "1 to 100000; beyond that use UNTIL or max_runs",
}
_STEPS = {"WEEKLY": timedelta(weeks=1), "DAILY": timedelta(days=1), "HOURLY": timedelta(hours=1)}


@functools.lru_cache(maxsize=16384)
def next_after(text: str, zone: str, anchor: datetime, after: datetime) -> datetime | None:
    """Return the first moment strictly later that matches a rule.

    Args:
        text: The rule, with or without ``RRULE:`` in front.
        zone: The IANA name of its time zone.
        anchor: Its DTSTART; fractions of a second are cut off.
        after: In UTC. Fractions of a second do not matter and may be cut off.

    Returns:
        A moment in UTC; ``None``: none in the calendar's cycle of 400 years.

    Raises:
        ValueError: The rule or the zone is wrong, or the rule never occurs.
    """
    where = local_time.get_zone(zone)
    return local_time.next_fixed(_matching(text, where, local_time.local_time(anchor, where)), where, after)


@functools.lru_cache(maxsize=4096)
def _matching(text: str, where: ZoneInfo, anchor: datetime) -> local_time.LocalTimes:
    """Return the local times that match a rule.

    They are computed in the last cycle of 400 years before the year 9999: dateutil searches until that year
    for what never occurs, which takes 20 times as long from today. The calendar is the same in each cycle.
    """
    later = 400 * ((9899 - anchor.year) // 400)
    begin = anchor.replace(year=anchor.year + later)
    parts = _parts(text)
    try:
        rule = _ended(parts, where, begin, later)
    except ValueError as error:
        raise ValueError(f'rrule "{text}": {error}') from None
    if rule.after(begin, inc=True) is None:
        raise ValueError(
            f'rrule "{text}" never occurs: it begins at {anchor} in {where.key}, and nothing matches from '
            "there "
            "on"
        )
    freq, interval = parts["FREQ"], int(parts.get("INTERVAL", 1))

    def matching(after: datetime) -> datetime | None:
        if after.year + later > MAXYEAR:
            return None
        sought = after.replace(year=after.year + later)
        found = rule.replace(dtstart=_nearer(freq, interval, begin, sought)).after(sought)
        return found and found.replace(year=found.year - later)

    return matching


def _ended(parts: dict[str, str], where: ZoneInfo, begin: datetime, later: int) -> rrule:
    """Return the rule from ``begin``, with its end as a local time, shifted by ``later`` years."""
    text = ";".join(f"{name}={value}" for name, value in parts.items() if name not in {"UNTIL", "COUNT"})
    rule = cast("rrule", rrulestr(text, dtstart=begin))  # one rule, not a set
    if "UNTIL" in parts:
        until = _until(parts["UNTIL"], where)
        if until.year + later <= MAXYEAR:
            rule = rule.replace(until=until.replace(year=until.year + later))
    elif "COUNT" in parts:
        # converted to an end: dateutil would count at each search
        counted = collections.deque(rule.replace(count=int(parts["COUNT"])), maxlen=1)
        rule = rule.replace(until=counted[0] if counted else begin - timedelta(seconds=1))
    return rule


def _parts(text: str) -> dict[str, str]:
    """Return the parts of a rule by name, each checked by itself."""
    parts: dict[str, str] = {}
    for part in text.upper().strip().removeprefix("RRULE:").rstrip(";").split(";"):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in _PATTERNS:
            raise ValueError(f'rrule "{text}": unknown part "{part}"; known are {", ".join(_PATTERNS)}')
        if name in parts:
            raise ValueError(f'rrule "{text}": {name} occurs twice')
        if not re.fullmatch(_PATTERNS[name], value) or not _within(name, value):
            raise ValueError(f'rrule "{text}": invalid {name} "{value}"; allowed: {_allowed(name)}')
        parts[name] = value
    if "FREQ" not in parts:
        raise ValueError(f'rrule "{text}": FREQ is missing; allowed: {_allowed("FREQ")}')
    if "UNTIL" in parts and "COUNT" in parts:
        raise ValueError(f'rrule "{text}": UNTIL and COUNT exclude each other')
    if "BYSETPOS" in parts and parts["FREQ"] == "HOURLY":
        raise ValueError(f'rrule "{text}": BYSETPOS cannot be used with HOURLY')
    if parts["FREQ"] not in {"YEARLY", "MONTHLY"} and re.search("[0-9]", parts.get("BYDAY", "")):
        raise ValueError(f'rrule "{text}": BYDAY takes numbers only with YEARLY and MONTHLY')
    return {"WKST": "MO"} | parts


def _within(name: str, value: str) -> bool:
    if name not in _NUMBERS:
        return True
    low, high = _NUMBERS[name]
    single = name in {"COUNT", "INTERVAL"} and "," in value
    return not single and all(low <= int(one) <= high and (low >= 0 or int(one)) for one in value.split(","))


def _allowed(name: str) -> str:
    if name in _HINTS:
        return _HINTS[name]
    low, high = _NUMBERS[name]
    return f"{low} to {high}" if low >= 0 else f"1 to {high}, or {low} to -1 from the end"


def _until(text: str, where: ZoneInfo) -> datetime:
    """Return the last local time that UNTIL allows; a day counts as a whole."""
    try:
        if text.endswith("Z"):
            return local_time.local_time(datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC), where)
        return datetime.strptime(text if "T" in text else f"{text}T235959", "%Y%m%dT%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise ValueError(f'UNTIL "{text}" is not a day') from None


def _nearer(freq: str, interval: int, begin: datetime, sought: datetime) -> datetime:
    """Return an equivalent beginning shortly before a local time, by whole periods later."""
    # one period earlier than possible: the first period may be cut, which would change BYSETPOS
    periods = _elapsed(freq, begin, sought) // interval - 1
    while periods > 0:
        with contextlib.suppress(ValueError):  # no such day in that month
            return _plus(freq, begin, periods * interval)
        periods -= 1
    return begin


def _elapsed(freq: str, begin: datetime, end: datetime) -> int:
    if freq == "YEARLY":
        return end.year - begin.year
    if freq == "MONTHLY":
        return (end.year - begin.year) * 12 + end.month - begin.month
    return (end - begin) // _STEPS[freq]


def _plus(freq: str, begin: datetime, count: int) -> datetime:
    if freq == "YEARLY":
        return begin.replace(year=begin.year + count)
    if freq == "MONTHLY":
        years, month = divmod(begin.month - 1 + count, 12)
        return begin.replace(year=begin.year + years, month=month + 1)
    return begin + count * _STEPS[freq]
