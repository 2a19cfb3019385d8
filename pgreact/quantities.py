"""Quantities as people write them."""

import datetime
import json
import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WIDTH = 60  # characters of a value in a line
_LONG = (("d", 86400), ("h", 3600), ("m", 60))


def duration(value: object) -> float:
    """Read a duration.

    Args:
        value: Text like ``"100ms"``, ``"1.5s"``, ``"2m"``, ``"1h"``, ``"1d"``, or a number of seconds.

    Returns:
        Seconds.

    Raises:
        ValueError: It is not a duration, or negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)):
        if found[2] is None and float(found[1]) != 0:
            raise ValueError(f'"{value}" has no unit: write "{found[1]}s" or another of ms, s, m, h, d')
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
    else:
        raise ValueError(f'{value!r} is not a duration: write "100ms", "15s", "2m", "1h" or "1d"')
    if not 0 <= seconds <= 36_500 * 86_400:
        raise ValueError(f"{value!r} is not a duration: it must not be negative, nor beyond 36500 days")
    return round(seconds, 6)  # PostgreSQL keeps microseconds, and what it keeps is compared with this


def short(seconds: float, *, roughly: bool = False) -> str:
    """Return a duration as one would write it in the file; all that is shown of durations comes from here.

    Args:
        seconds: Not negative; less counts as none.
        roughly: For an age: at least two of a unit, and no fraction.
    """
    if roughly:
        fitting = ((unit, size) for unit, size in _LONG if seconds >= 2 * size)
        unit, size = next(fitting, ("s", 1))
        return f"{max(0.0, seconds) / size:.0f}{unit}"
    for unit, size in _LONG:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    if 0 < seconds < 1 and (ms := round(seconds * 1000)) == round(seconds * 1000, 3):
        return f"{ms}ms"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def short_rate(jobs: float) -> str:
    """Return a rate as one would write it.

    Args:
        jobs: A second.
    """
    for unit, size in (("s", 1), ("m", 60), ("h", 3600), ("d", 86400)):
        if abs(jobs * size - round(jobs * size)) < 1e-9 * jobs * size:
            return f"{round(jobs * size)}/{unit}"
    return f"{jobs:g}/s"


def shown(value: object) -> str:
    """Return a value of the configuration, or of a column that it decides, as a line of a plan shows it.

    Args:
        value: Of a section or a column; a ``float`` or a ``timedelta`` is a duration.
    """
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime.timedelta():
            return short(value.total_seconds())
        case float():
            return short(value)
        case datetime.datetime():
            return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    plain = isinstance(value, str) and value and value.isprintable()
    text = str(value) if plain else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def limit(value: object) -> int | None:
    """Read how many jobs may be in progress.

    Args:
        value: A number from 1 on, in digits if need be (the environment has only texts), or ``"none"``.

    Returns:
        Jobs; ``None``: no limit.

    Raises:
        ValueError: It is neither.
    """
    if value is None or value == "none":
        return None
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value) else value
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number < 2**31:
        return number
    raise ValueError(
        f'{value!r} is no limit: write a number of jobs from 1 on, or "none" for no limit; '
        "paused = true lets none go"
    )


def rate(value: object) -> float | None:
    """Read a rate.

    Args:
        value: Jobs a second, or text like ``"10/s"``, ``"100/m"``, ``"5000/h"``, or ``"none"``.

    Returns:
        Jobs a second; ``None``: no limit.

    Raises:
        ValueError: It is no rate.
    """
    if value is None or value == "none":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        jobs = float(value)
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*([smhd])\s*", value)):
        jobs = float(found[1]) / _UNITS[found[2]]
    else:
        raise ValueError(
            f'{value!r} is no rate: write jobs a second, or "10/s", "100/m", "5000/h", or "none"'
        )
    if not 1e-6 <= jobs <= 1e6:
        raise ValueError(
            f"{value!r} is no rate: it lies between one in a million seconds and a million a second"
        )
    return jobs


def retention(value: object) -> float | None:
    """Read how long settled jobs are kept.

    Args:
        value: A duration, or ``"none"``.

    Returns:
        Seconds; ``None``: they are not kept.

    Raises:
        ValueError: It is neither, or out of bounds.
    """
    return _long(value, "keeps nothing")


def start_within(value: object) -> float | None:
    """Read how long an attempt that no worker starts is published again.

    Args:
        value: A duration, or ``"none"``.

    Returns:
        Seconds; ``None``: for ever.

    Raises:
        ValueError: It is neither, or out of bounds.
    """
    return _long(value, "never gives one up")


def tasks(value: object) -> object:
    """Read which tasks a lane takes: a list of names; ``"none"``: any, which is ``None``."""
    return None if value == "none" else value


def _long(value: object, none: str) -> float | None:
    if value is None or value == "none":
        return None
    seconds = duration(value)
    if not 3600 <= seconds <= 3650 * 86400:
        raise ValueError(f'{value!r} is not between "1h" and "3650d"; "none" {none}')
    return seconds


def moment(value: object) -> datetime.datetime:
    """Read a point in time.

    Args:
        value: Text like ``"2026-03-29T09:00:00+02:00"``, or TOML's own date or date with a time.

    Returns:
        It, with an offset only if one was written.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time())
    try:
        return datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f'{value!r} is no time: write it like "2026-03-29T09:00:00+02:00"') from None


Duration = Annotated[float, BeforeValidator(duration)]
Limit = Annotated[int | None, BeforeValidator(limit)]
Rate = Annotated[float | None, BeforeValidator(rate)]
Retention = Annotated[float | None, BeforeValidator(retention)]
StartWithin = Annotated[float | None, BeforeValidator(start_within)]
Tasks = Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]] | None, BeforeValidator(tasks)]
Moment = Annotated[datetime.datetime, BeforeValidator(moment)]
