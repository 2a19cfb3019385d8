"""Quantities as text: reads and formats durations, rates, limits and times, for the file and for people."""

import datetime
import json
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WIDTH = 60  # characters of a value in a line
_LONG_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def parse_duration(value: object) -> float:
    """Read a duration.

    Args:
        value: Text like ``"100ms"``, ``"1.5s"``, ``"2m"``, ``"1h"``, ``"1d"``, a number of seconds, or a
            ``timedelta``.

    Returns:
        Seconds.

    Raises:
        ValueError: The value is not a duration, or out of bounds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)):
        if found[2] is None and float(found[1]) != 0:
            raise ValueError(f'"{value}" has no unit: write "{found[1]}s" or another of ms, s, m, h, d')
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
    else:
        raise ValueError(f'{value!r} is not a duration: write "100ms", "15s", "2m", "1h" or "1d"')
    if not 0 <= seconds <= 36_500 * 86_400:
        raise ValueError(f'{value!r} is not a duration between "0s" and "36500d"')
    return round(seconds, 6)  # PostgreSQL keeps microseconds, and apply compares with what it keeps


def check_between(seconds: float, least: str, most: str) -> float:
    """Refuse a duration that is out of bounds.

    Args:
        seconds: The duration.
        least: The shortest duration allowed, as text.
        most: The longest.

    Returns:
        The same seconds.

    Raises:
        ValueError: It is shorter or longer.
    """
    if not parse_duration(least) <= seconds <= parse_duration(most):
        raise ValueError(f'{format_duration(seconds)!r} is not a duration between "{least}" and "{most}"')
    return seconds


def format_duration(seconds: float, *, roughly: bool = False) -> str:
    """Format a duration as the file writes it. All durations that people read are formatted here.

    Args:
        seconds: The duration; a negative one counts as 0.
        roughly: Format an age: in whole units, with a larger unit only from 2 of it on.
    """
    seconds = max(0.0, seconds)
    if roughly:
        fitting = ((unit, size) for unit, size in _LONG_UNITS if seconds >= 2 * size)
        unit, size = next(fitting, ("s", 1))
        return f"{seconds / size:.0f}{unit}"
    for unit, size in _LONG_UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


MOST_COUNTED = 10_000  # rows that queries count at most, unless they say another number


def format_count(count: int, counted_to: int = MOST_COUNTED) -> str:
    """Format a count of rows by a query that stops counting.

    Args:
        count: The rows.
        counted_to: A count above this means more: ``10 000+``.
    """
    return f"{count}" if count <= counted_to else f"{counted_to:,}+".replace(",", " ")


def format_rate(jobs: float) -> str:
    """Format a rate as the file writes it.

    Args:
        jobs: Jobs a second.
    """
    for unit, size in (("s", 1), ("m", 60), ("h", 3600), ("d", 86400)):
        if abs(jobs * size - round(jobs * size)) < 1e-9 * jobs * size:
            return f"{round(jobs * size)}/{unit}"
    return f"{jobs:g}/s"


def format_column(column: str, value: object) -> str:
    """Format the value of a column that the configuration sets: a column ``rate`` holds jobs a second."""
    if column == "bundle" and value is None:
        return "auto"
    return format_rate(value) if column == "rate" and isinstance(value, int | float) else format_value(value)


def format_change(column: str, before: object, after: object) -> str:
    """Format the change of a column for a line of a plan.

    Args:
        column: Its name.
        before: The value in the database.
        after: The value of the configuration.
    """
    return f"{column} {format_column(column, before)} → {format_column(column, after)}"


def format_value(value: object) -> str:
    """Format a value of the configuration, or of a column that it sets, for a line of a plan.

    Args:
        value: Of a section or a column; a ``float`` or a ``timedelta`` is a duration.
    """
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime.timedelta():
            return format_duration(value.total_seconds())
        case float():
            return format_duration(value)
        case datetime.datetime():
            return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    plain = isinstance(value, str) and value and value.isprintable()
    text = str(value) if plain else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def parse_limit(value: object) -> int | None:
    """Read how many jobs may be in progress.

    Args:
        value: A number from 1 on, also as digits (environment variables are text), or ``"none"``.

    Returns:
        Jobs; ``None``: no limit.

    Raises:
        ValueError: The value is neither.
    """
    if value is None or value == "none":
        return None
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value) else value
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number < 2**31:
        return number
    raise ValueError(
        f'{value!r} is not a limit: write a number of jobs from 1 on, or "none" for no limit; '
        "paused = true stops a lane"
    )


def parse_rate(value: object) -> float | None:
    """Read a rate.

    Args:
        value: Jobs a second, or text like ``"10/s"``, ``"100/m"``, ``"5000/h"``, or ``"none"``.

    Returns:
        Jobs a second; ``None``: no limit.

    Raises:
        ValueError: The value is not a rate, or out of bounds.
    """
    if value is None or value == "none":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        jobs = float(value)
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*([smhd])\s*", value)):
        jobs = float(found[1]) / _UNITS[found[2]]
    else:
        raise ValueError(
            f'{value!r} is not a rate: write "10/s", "100/m", "5000/h", a number of jobs a second, or "none"'
        )
    if not 1e-6 <= jobs <= 1e6:
        raise ValueError(f"{value!r} is not a rate between 0.000001 and 1000000 jobs a second")
    return jobs


def parse_retention(value: object) -> float | None:
    """Read how long settled jobs, or past occurrences, are kept.

    Args:
        value: A duration, or ``"none"``.

    Returns:
        Seconds; ``None``: none are kept.

    Raises:
        ValueError: The value is neither, or out of bounds.
    """
    return _optional_duration(value, '"none" keeps nothing')


def parse_start_within(value: object) -> float | None:
    """Read how long the message of an attempt that no worker starts is published again.

    Args:
        value: A duration, or ``"none"``.

    Returns:
        Seconds; ``None``: for ever.

    Raises:
        ValueError: The value is neither, or out of bounds.
    """
    return _optional_duration(value, '"none" never gives up')


def parse_canary(value: object) -> float | None:
    """Read how often a canary is sent.

    Args:
        value: A duration, or ``"none"``.

    Returns:
        Seconds; ``None``: never.

    Raises:
        ValueError: The value is neither, or out of bounds.
    """
    return _optional_duration(value, '"none" sends none', "1s", "1d")


def parse_optional(value: object) -> object:
    """Read a value that ``"none"`` clears, which is ``None``; any other stays as it is."""
    return None if value == "none" else value


def _optional_duration(value: object, none: str, least: str = "1h", most: str = "3650d") -> float | None:
    if value is None or value == "none":
        return None
    try:
        return check_between(parse_duration(value), least, most)
    except ValueError as error:
        raise ValueError(f"{error}; {none}") from None


def parse_time(value: object) -> datetime.datetime:
    """Read a point in time.

    Args:
        value: Text like ``"2026-03-29T09:00:00+02:00"``, or TOML's own date or date with a time.

    Returns:
        The time, with an offset only if one was written.

    Raises:
        ValueError: The value is not a time.
    """
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time())
    try:
        return datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f'{value!r} is not a time: write it like "2026-03-29T09:00:00+02:00"') from None
