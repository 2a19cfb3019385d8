"""Cron expressions, with the rules of Debian's cron.

``cronsim`` parses the fields and finds the matching local times. Added here: ``@daily`` and the other names,
ranges that wrap, full names of days and months, Celery's rule for the two fields of days, and time zones.

An expression whose second, minute or hour begins with ``*`` goes by the clock, any other is fixed: see
``local_time``.
"""

import copy
import functools
import re
from datetime import datetime

from cronsim import CronSim, CronSimError

from pgreact.timetable import local_time

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)


def _names(names: tuple[str, ...], lowest: int) -> tuple[re.Pattern[str], dict[str, int]]:
    numbers = {name: number for number, name in enumerate(names, lowest)}
    numbers |= {name[:3]: number for name, number in numbers.items()}
    # whole words, with an L after them or not
    return re.compile(rf"(?<![a-z0-9])({'|'.join(numbers)})(?![a-km-z0-9])"), numbers


_NAMES = {"month": _names(_MONTHS, 1), "day-of-week": _names(_DAYS, 0)}
# The lowest and highest value of each field, and the number of values after which a range wraps.
_BOUNDS = {
    "second": (0, 59, 60),
    "minute": (0, 59, 60),
    "hour": (0, 23, 24),
    "day-of-month": (1, 31, 31),
    "month": (1, 12, 12),
    "day-of-week": (0, 7, 7),  # 0 and 7 are Sunday
}
_ALLOWED = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L for the last day, or LW for the last weekday",
    "month": "1 to 12, or jan to dec",
    "day-of-week": "0 to 7, or sun to sat, with L (friL: the last Friday) or # (fri#2: the second one)",
}


@functools.lru_cache(maxsize=65536)
def next_after(text: str, both: bool, zone: str, after: datetime) -> datetime | None:
    """Return the first moment strictly later that matches an expression.

    Args:
        text: Five fields, six with seconds first, or a name like ``@daily``.
        both: Day of month and day of week must both match, as in Celery. Otherwise one of them is enough, as
            in cron, unless one of the two begins with ``*``.
        zone: The IANA name of its time zone.
        after: In UTC. Fractions of a second do not matter and may be cut off.

    Returns:
        A moment in UTC; ``None``: none within 50 years, since the calendar ends.

    Raises:
        ValueError: The expression or the zone is wrong, or the expression never occurs.
    """
    matching, by_clock = _parse(text, both)
    following = local_time.next_by_clock if by_clock else local_time.next_fixed
    return following(matching, local_time.get_zone(zone), after)


@functools.lru_cache(maxsize=4096)
def _parse(text: str, both: bool) -> tuple[local_time.LocalTimes, bool]:
    """Return the matching local times, and whether they go by the clock."""
    fields = _fields(text)
    values = [_numbers(text, *field) for field in zip(_FIELDS, fields, strict=True)]
    try:
        found = CronSim(" ".join(values), datetime(2000, 1, 1))  # noqa: DTZ001  # local time
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        at = _FIELDS.index(name)
        if name == "day-of-month" and _is_day(values[at]):
            raise _never(text, fields) from None  # such as 30 February
        raise _wrong(text, name, fields[at]) from None
    found.day_and |= both
    if next(copy.copy(found), None) is None:
        raise _never(text, fields)

    def matching(after: datetime) -> datetime | None:
        search = copy.copy(found)  # a search has state, and other threads may search, too
        search.dt = after
        return next(search, None)

    return matching, any(field.startswith("*") for field in fields[:3])


def plain_fields(text: str) -> list[str] | None:
    """Return the six fields of an expression, names of days and months as numbers; ``None``: it is wrong."""
    try:
        fields = _fields(text)
    except ValueError:
        return None
    named = zip(_FIELDS, fields, strict=True)
    return [_numbered(name, field) for name, field in named]


def _fields(text: str) -> list[str]:
    """Return the six fields of an expression, in lower case."""
    lowered = text.lower().strip()
    if lowered == "@reboot":
        raise ValueError(
            f'cron "{text}": not supported, since nothing is booted; write a time, such as "@daily"'
        )
    if lowered.startswith("@") and lowered not in _NAMED:
        raise ValueError(f'cron "{text}": no such name; known are {", ".join(_NAMED)}')
    fields = _NAMED.get(lowered, lowered).split()
    if len(fields) == 5:
        return ["0", *fields]
    if len(fields) == 6:
        return fields
    raise ValueError(
        f'cron "{text}" has {len(fields)} fields: write five (minute, hour, day of month, month, '
        "day of week), or six with the second first"
    )


def _numbers(text: str, name: str, field: str) -> str:
    """Return a field with names as numbers, and ranges as lists, since cronsim's ranges do not wrap."""
    terms = []
    for term in _numbered(name, field).split(","):
        found = re.fullmatch(r"([0-9]{1,4})-([0-9]{1,4})(?:/([0-9]{1,4}))?", term)
        if found is None:
            terms.append(term)
            continue
        begin, end, step = int(found[1]), int(found[2]), int(found[3] or 1)
        low, high, size = _BOUNDS[name]
        if not (low <= begin <= high and low <= end <= high and step):
            raise _wrong(text, name, term)
        length = end - begin if begin <= end else (end - begin) % size
        terms += [str(low + (begin - low + plus) % size) for plus in range(0, length + 1, step)]
    return ",".join(terms)


def _numbered(name: str, field: str) -> str:
    if name not in _NAMES:
        return field
    pattern, numbers = _NAMES[name]
    return pattern.sub(lambda found: str(numbers[found[0]]), field)


def _is_day(value: str) -> bool:
    """Return whether a day of month is valid by itself."""
    try:
        CronSim(f"0 0 {value} * *", datetime(2000, 1, 1))  # noqa: DTZ001  # local time
    except CronSimError:
        return False
    return True


def _never(text: str, fields: list[str]) -> ValueError:
    day, month, weekday = fields[3:]
    return ValueError(
        f'cron "{text}" never occurs: no day is "{day}" as day of month, "{month}" as month and '
        f'"{weekday}" as day of week'
    )


def _wrong(text: str, name: str, value: str) -> ValueError:
    return ValueError(f'cron "{text}": invalid {name} "{value}"; allowed: {_ALLOWED[name]}')
