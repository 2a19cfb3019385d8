"""The columns of a schedule as options of a command."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
from pydantic import ValidationError

from pgreact.errors import ConfigError
from pgreact.section import explain
from pgreact.timetable.settings import WAYS, ScheduleSettings

_CLEARED = ("anchor", "start_at", "end_at", "max_runs", "lane", "expires", "history")  # by the word none
_JSON = ("args", "kwargs", "options")

_VALUES: dict[str, tuple[str, str]] = {
    "every": ("DURATION", "Recurs so often, on a grid from its anchor: 30s, 5m, 1h, 1d."),
    "cron": ("CRON", "Recurs as cron says: five fields, six with seconds first, or @daily and the like."),
    "at": ("TIME", "Runs once: 2026-03-29T09:00, in the schedule's time zone unless it has an offset."),
    "solar": ("PLACE", 'Recurs with the sun: "sunset 48.86 2.35".'),
    "rrule": ("RRULE", "Recurs as RFC 5545 says: FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0."),
    "timezone": ("ZONE", "Of cron, rrule and times without an offset; default: UTC."),
    "args": ("JSON", "The task's arguments: [1, 2]."),
    "kwargs": ("JSON", 'The task\'s arguments by name: {"user_id": 42}.'),
    "lane": ("LANE", "Of its jobs; none: that of the Celery queue its task is routed to."),
    "priority": ("N", "Of its jobs; higher goes first."),
    "max_attempts": ("N", "Of each of its jobs."),
    "options": ("JSON", 'Options of apply_async: {"queue": "mail"}.'),
    "expires": ("DURATION", "Discard jobs and messages not started within this time of their firing."),
    "anchor": ("TIME", "Where the grid of --every begins, and --rrule."),
    "start_at": ("TIME", "No occurrence before."),
    "end_at": ("TIME", "No occurrence after."),
    "max_runs": ("N", "So many runs, then never again."),
    "jitter": ("DURATION", "Each occurrence is put off by less than this."),
    "grace": ("DURATION", "What is found later than this is a misfire; default: 1m."),
    "catch_up": ("N", "With --misfire all: so many at most."),
    "history": ("DURATION", "How long what became of its occurrences is kept."),
    "description": ("TEXT", "For people."),
}


_FLAGS: dict[str, tuple[str, str]] = {
    "cron_and": ("--cron-and/--cron-or", "Day of month and day of week must both match, as in Celery."),
    "overlap": ("--overlap/--no-overlap", "It runs though the job of the occurrence before has not ended."),
    "enabled": ("--enabled/--disabled", "It runs at all."),
}
_CHOICES: dict[str, tuple[list[str], str]] = {
    "misfire": (
        ["coalesce", "skip", "all"],
        "What of occurrences found late is run: the last, none, or each.",
    ),
    "delivery": (["queue", "direct"], "It enqueues a job, or sends the message itself."),
}


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each column of a schedule but its task."""
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
    """Return a schedule from the options of a command.

    Args:
        given: By column.

    Raises:
        ConfigError: One line for each that is wrong.
    """
    values = {column: _read(column, value) for column, value in given.items()}
    ways = [_option(way) for way in WAYS if way in values]
    if len(ways) != 1:
        said = f"{' and '.join(ways)} exclude each other" if ways else "nothing says when it recurs"
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
    if column in _CLEARED and value == "none":
        return None
    if column in _JSON:
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{_option(column)}: {value} is no JSON: {error}") from None
    return value
