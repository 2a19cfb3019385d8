"""A schedule whose sends are watched."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from pgreact.timetable.columns import schedule
from pgreact.timetable.planner import Schedule, following
from pgreact.timetable.shadow.call import Call, planned


@dataclasses.dataclass(frozen=True)
class Watched:
    """What is expected of whoever sends.

    Attributes:
        name: Of the schedule.
        call: What is sent.
        every: The period of an interval; ``None``: it recurs by the calendar.
        schedule: What the planner needs.
    """

    name: str
    call: Call
    every: datetime.timedelta | None
    schedule: Schedule

    @property
    def start(self) -> datetime.datetime | None:
        """Before this nothing is due."""
        return self.schedule.start_at

    @property
    def end(self) -> datetime.datetime | None:
        """After this nothing is due."""
        return self.schedule.end_at

    def after(self, time: datetime.datetime) -> datetime.datetime | None:
        """Return the first occurrence later than a moment.

        Raises:
            RecurrenceError: What was written does not say when.
        """
        return following(self.schedule, time)


def watched(columns: Mapping[str, Any], now: datetime.datetime) -> Watched:
    """Return a schedule to watch.

    Args:
        columns: As ``entries.row`` makes them.
        now: Where an interval begins that has no anchor.
    """
    every = columns.get("every")
    call = planned(
        columns["task"],
        *(columns.get(name, empty) for name, empty in (("args", "[]"), ("kwargs", "{}"), ("options", "{}"))),
    )
    return Watched(columns["name"], call, every and datetime.timedelta(seconds=every), schedule(columns, now))
