"""The columns of a schedule as options of a command."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
from pydantic import ValidationError

from pgreact.errors import ConfigError
from pgreact.section import explain
from pgreact.timetable.settings import WAYS, ScheduleSettings

_OPTIONAL = ("anchor", "start_at", "end_at", "max_runs", "lane", "expires", "retention")  # "none" clears them
_JSON = ("args", "kwargs", "options")

_VALUES: dict[str, tuple[str, str]] = {
    "every": ("DURATION", "Interval, on a grid from the anchor: 30s, 5m, 1h, 1d."),
    "cron": ("CRON", "Cron expression: five fields, six with seconds first, or @daily and the like."),
    "at": ("TIME", "Run once: 2026-03-29T09:00, in the schedule's time zone unless it has an offset."),
    "solar": ("PLACE", 'Event of the sun, latitude, longitude: "sunset 48.86 2.35".'),
    "rrule": ("RRULE", "Rule of RFC 5545: FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0."),
    "timezone": ("ZONE", "Time zone of cron, rrule and times without an offset; default: UTC."),
    "args": ("JSON", "Arguments of the task: [1, 2]."),
    "kwargs": ("JSON", 'Keyword arguments of the task: {"user_id": 42}.'),
    "lane": ("LANE", "Lane of its jobs; default: that of the Celery queue its task is routed to."),
    "priority": ("N", "Priority of its jobs; higher goes first."),
    "max_attempts": ("N", "Attempts of each of its jobs; default: 1."),
    "options": ("JSON", 'Options of apply_async: {"queue": "mail"}.'),
    "expires": ("DURATION", "Discard jobs and messages not started within this time of their firing."),
    "anchor": ("TIME", "Start of the grid of --every, and of --rrule; default: --start-at, else now."),
    "start_at": ("TIME", "No occurrence before this time."),
    "end_at": ("TIME", "No occurrence after this time."),
    "max_runs": ("N", "End the schedule after this many runs."),
    "jitter": ("DURATION", "Delay each occurrence by a time shorter than this."),
    "grace": ("DURATION", "An occurrence found later than this is a misfire; default: 1m."),
    "catch_up": ("N", "With --misfire all, fire at most the newest N; default: 100."),
    "retention": ("DURATION", "How long to keep the history of its occurrences; default: none."),
    "description": ("TEXT", "Free text."),
}


_FLAGS: dict[str, tuple[str, str]] = {
    "cron_and": ("--cron-and/--cron-or", "Day of month and day of week must both match, as in Celery."),
    "overlap": ("--overlap/--no-overlap", "Allow runs of this schedule to overlap."),
    "enabled": ("--enabled/--disabled", "Let the schedule fire."),
}
_CHOICES: dict[str, tuple[list[str], str]] = {
    "misfire": (
        ["coalesce", "skip", "all"],
        "Of occurrences found late, fire the last, none, or each.",
    ),
    "delivery": (["queue", "direct"], "Enqueue a job, or send the message directly."),
}


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each column of a schedule except its task."""
    options = [
        *(
            click.option(_option(column), metavar=value, help=text)
            for column, (value, text) in _VALUES.items()
        ),
        *(
            click.option(_option(column), type=click.Choice(words), help=text)
            for column, (words, text) in _CHOICES.items()
        ),
        *(click.option(words, column, default=None, help=text) for column, (words, text) in _FLAGS.items()),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def entry(given: Mapping[str, Any]) -> ScheduleSettings:
    """Return the schedule that a command's options describe.

    Args:
        given: The options' values, by column.

    Raises:
        ConfigError: Options are wrong; one line for each.
    """
    values = {column: _read(column, value) for column, value in given.items()}
    ways = [_option(way) for way in WAYS if way in values]
    if len(ways) != 1:
        said = f"{' and '.join(ways)} exclude each other" if ways else "no recurrence given"
        raise ConfigError(f"{said}: give one of {', '.join(map(_option, WAYS))}")
    try:
        return ScheduleSettings.model_validate(values)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            place = f"{_option(str(detail['loc'][0]))}: " if detail["loc"] else ""
            lines.append(f"{place}{explain(detail)}")
        raise ConfigError("\n".join(lines)) from None


def _option(column: str) -> str:
    return f"--{column.replace('_', '-')}"


def _read(column: str, value: Any) -> Any:
    if column in _OPTIONAL and value == "none":
        return None
    if column in _JSON:
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{_option(column)}: {value} is not JSON: {error}") from None
    return value
