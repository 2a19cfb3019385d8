"""A schedule whose messages are expected."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from pgreact.timetable.planner import Schedule, following
from pgreact.timetable.schedule_row import from_columns
from pgreact.timetable.shadow.call import Call, planned


@dataclasses.dataclass(frozen=True)
class Expected:
    """The messages that a schedule should cause.

    Attributes:
        name: Of the schedule.
        call: Task and arguments.
        every: The period of an interval; ``None``: it recurs by the calendar.
        schedule: As the planner has it.
    """

    name: str
    call: Call
    every: datetime.timedelta | None
    schedule: Schedule

    @property
    def start(self) -> datetime.datetime | None:
        """No occurrence is due before."""
        return self.schedule.start_at

    @property
    def end(self) -> datetime.datetime | None:
        """No occurrence is due after."""
        return self.schedule.end_at

    def after(self, time: datetime.datetime) -> datetime.datetime | None:
        """Return the first occurrence later than a moment.

        Raises:
            RecurrenceError: The recurrence cannot be computed.
        """
        return following(self.schedule, time)


def expected(columns: Mapping[str, Any], now: datetime.datetime) -> Expected:
    """Return what a schedule should cause.

    Args:
        columns: As ``importers.entries.row`` returns them.
        now: Where an interval begins that has no anchor.
    """
    every = columns.get("every")
    call = planned(
        columns["task"],
        *(columns.get(name, empty) for name, empty in (("args", "[]"), ("kwargs", "{}"), ("options", "{}"))),
    )
    return Expected(
        columns["name"], call, every and datetime.timedelta(seconds=every), from_columns(columns, now)
    )
