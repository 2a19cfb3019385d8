"""Celery's crontab as a cron expression."""

import re

from celery.schedules import crontab

# What Celery and cron read alike. Anything else is written out as the numbers that Celery made of it.
_NUMBERS = r"\d+(?:-\d+)?|\*(?:/[1-9]\d?)?"
_DAY = "(?:sun|mon|tue|wed|thu|fri|sat)"
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
# of each field: its name in Celery, its lowest and highest value, and how its items may look
_FIELDS = (
    ("minute", 0, 59, _NUMBERS),
    ("hour", 0, 23, _NUMBERS),
    ("day_of_month", 1, 31, _NUMBERS),
    ("month_of_year", 1, 12, f"{_NUMBERS}|{_MONTH}(?:-{_MONTH})?"),
    ("day_of_week", 0, 6, f"{_NUMBERS}|{_DAY}(?:-{_DAY})?"),
)
_PLAIN = {name: re.compile(f"(?:{item})(?:,(?:{item}))*") for name, _, _, item in _FIELDS}


def cron(schedule: crontab) -> tuple[str, bool]:
    """Write a crontab as five fields.

    Args:
        schedule: Celery's.

    Returns:
        The expression; and whether day of month and day of week must both match, as Celery wants it.

    Raises:
        ValueError: One of its fields matches nothing.
    """
    texts = {name: _text(schedule, name, low, high) for name, low, high, _ in _FIELDS}
    both = texts["day_of_month"] != "*" and texts["day_of_week"] != "*"
    return " ".join(texts.values()), both


def _text(schedule: crontab, name: str, low: int, high: int) -> str:
    values = {int(value) for value in getattr(schedule, name)}
    if not values:
        raise ValueError(f"its {name} matches nothing")
    if len(values) == high - low + 1:
        return "*"
    given = getattr(schedule, f"_orig_{name}")
    if isinstance(given, str) and _PLAIN[name].fullmatch(given.lower()):
        return given.lower()
    return ",".join(map(str, sorted(values)))
