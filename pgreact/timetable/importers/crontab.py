"""Celery's crontabs as cron expressions."""

import functools
import re
from collections.abc import Iterable

from celery.schedules import crontab

Spec = int | str | Iterable[int]  # a field, as Celery takes it

# What Celery and cron read alike. Anything else is written out as the numbers that Celery makes of it.
_NUMBERS = r"\d+(?:-\d+)?|\*(?:/[1-9]\d?)?"
_DAY = "(?:sun|mon|tue|wed|thu|fri|sat)"
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
# of each field: its lowest value, how many there are, and how its items may look
FIELDS = {
    "minute": (0, 60, _NUMBERS),
    "hour": (0, 24, _NUMBERS),
    "day_of_month": (1, 31, _NUMBERS),
    "month_of_year": (1, 12, f"{_NUMBERS}|{_MONTH}(?:-{_MONTH})?"),
    "day_of_week": (0, 7, f"{_NUMBERS}|{_DAY}(?:-{_DAY})?"),
}
_PLAIN = {name: re.compile(f"(?:{item})(?:,(?:{item}))*") for name, (_, _, item) in FIELDS.items()}


def cron(
    minute: Spec, hour: Spec, day_of_month: Spec, month_of_year: Spec, day_of_week: Spec
) -> tuple[str, bool]:
    """Write a crontab as five fields, which are here in cron's order.

    Returns:
        The expression; and whether day of month and day of week must both match, as Celery wants it.

    Raises:
        ValueError: A field matches nothing, or Celery refuses it.
    """
    days, weekdays = _field("day_of_month", day_of_month), _field("day_of_week", day_of_week)
    text = (
        f"{_field('minute', minute)} {_field('hour', hour)} {days} {_field('month_of_year', month_of_year)}"
    )
    return f"{text} {weekdays}", days != "*" != weekdays


def _field(name: str, spec: Spec) -> str:
    return _written(name, spec) if isinstance(spec, str) else _listed(name, spec)


@functools.lru_cache(maxsize=1024)
def _written(name: str, spec: str) -> str:
    listed = _listed(name, spec)
    return spec.lower() if listed != "*" and _PLAIN[name].fullmatch(spec.lower()) else listed


def _listed(name: str, spec: Spec) -> str:
    low, size, _ = FIELDS[name]
    try:
        values = {int(value) for value in crontab._expand_cronspec(spec, size, low)}  # type: ignore[attr-defined]
    except Exception as error:
        # its own exceptions, among others
        raise ValueError(f'its {name} is "{spec}": {" ".join(str(error).split())}') from error
    if not values:
        raise ValueError(f"its {name} matches nothing")
    return "*" if len(values) == size else ",".join(map(str, sorted(values)))
