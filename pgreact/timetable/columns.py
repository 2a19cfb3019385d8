"""The columns of a schedule as users type them, in options of a command and in forms."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pgreact.errors import ConfigError
from pgreact.section import explain
from pgreact.timetable.settings import WAYS, ScheduleSettings

OPTIONAL = ("anchor", "start_at", "end_at", "max_runs", "lane", "expires", "retention")  # "none" clears them
JSON = ("args", "kwargs", "options")

VALUES: dict[str, tuple[str, str]] = {
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

FLAGS: dict[str, tuple[str, str]] = {
    "cron_and": ("--cron-and/--cron-or", "Day of month and day of week must both match, as in Celery."),
    "overlap": ("--overlap/--no-overlap", "Allow runs of this schedule to overlap."),
    "enabled": ("--enabled/--disabled", "Let the schedule fire."),
}
CHOICES: dict[str, tuple[list[str], str]] = {
    "misfire": (
        ["coalesce", "skip", "all"],
        "Of occurrences found late, fire the last, none, or each.",
    ),
    "delivery": (["queue", "direct"], "Enqueue a job, or send the message directly."),
}


class Mistakes(ConfigError):
    """Columns are wrong.

    Attributes:
        columns: What is wrong, by column; that of an empty name concerns the whole schedule.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name}: {said}" if name else said for name, said in columns.items()))
        self.columns = dict(columns)


def read_columns(given: Mapping[str, Any]) -> ScheduleSettings:
    """Return the schedule that typed columns describe.

    Args:
        given: The texts, by column; of an optional column also ``none``.

    Raises:
        Mistakes: Columns are wrong.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for column, value in given.items():
        if column in OPTIONAL and value == "none":
            values[column] = None
        elif column in JSON:
            try:
                values[column] = json.loads(value)
            except (ValueError, RecursionError) as error:
                wrong[column] = f"{value} is not JSON: {error}"
        else:
            values[column] = value
    if wrong:
        raise Mistakes(wrong)
    ways = [way for way in WAYS if way in values]
    if len(ways) != 1:
        raise Mistakes({"": f"{len(ways)} recurrences given: give one of {', '.join(WAYS)}"})
    try:
        return ScheduleSettings.model_validate(values)
    except ValidationError as error:
        found = {str(detail["loc"][0]) if detail["loc"] else "": explain(detail) for detail in error.errors()}
        raise Mistakes(found) from None
