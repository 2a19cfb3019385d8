"""A pass over the timetable in a test: fire what is due, on the test's connection."""

import datetime
import math
import re
from typing import Any

from pgreact.broker.job_publisher import JobMessage
from pgreact.errors import PgreactError
from pgreact.postgres.queries import query
from pgreact.testing.connection import Rows, TestConnection, moment, run
from pgreact.timetable.delivery import Firing, direct_messages
from pgreact.timetable.firing import planned

_DELIVERIES = ("queue", "direct")
_PAGE = 1000  # schedules


def fire_due(connection: TestConnection) -> tuple[list[JobMessage], list[str]]:
    """Fire what is due and plan what is new, until nothing is.

    Returns:
        The messages of direct delivery, to be sent; and the errors of schedules that failed.

    Raises:
        PgreactError: Another transaction holds a schedule.
    """
    messages: list[JobMessage] = []
    errors: list[str] = []
    for delivery in _DELIVERIES:
        while rows := _rows(connection, "timetable_due", delivery, 0, None, 0, [], _PAGE, None):
            firings = {row["id"]: _planned(row, delivery) for row in rows}
            plans = f"[{','.join(firing.text for firing in firings.values())}]"
            fired = run(connection, "select id, jobs, error from pgreact.fire(%(plans)s::jsonb)", plans=plans)
            if not fired:
                raise PgreactError(
                    f"schedule {rows[0]['name']} cannot be fired: another transaction holds its row"
                )
            for row in fired:
                firing = firings[row["id"]]
                messages += firing.messages[: len(row["jobs"])]
                if row["error"]:
                    errors.append(f"schedule {firing.schedule.name}: {row['error']}")
    return messages, errors


def next_due(connection: TestConnection) -> datetime.datetime | None:
    """Return when a schedule is due next; ``None``: none will be."""
    waits = [
        row["wait"]
        for delivery in _DELIVERIES
        for row in _rows(connection, "timetable_next", delivery, 0, None, 0, [])
        if row["wait"] is not None
    ]
    return after(moment(connection), min(waits)) if waits else None


def after(now: datetime.datetime, seconds: float) -> datetime.datetime:
    """Return the first microsecond that is at least a number of seconds after a time."""
    microseconds = max(1, math.ceil(round(seconds * 1_000_000, 1)))
    return now + datetime.timedelta(microseconds=microseconds)


def _planned(row: dict[str, Any], delivery: str) -> Firing:
    return planned(row, direct_messages if delivery == "direct" else _none)


def _none(*_: object) -> list[JobMessage]:
    return []


def _rows(connection: TestConnection, name: str, *arguments: object) -> Rows:
    """Run a query of the leader's, whose parameters are numbered."""
    text = re.sub(r"^ *--.*\n", "", re.sub(r"\$(\d)", r"%(p\1)s", query(name)), flags=re.MULTILINE)
    return run(connection, text, **{f"p{n}": value for n, value in enumerate(arguments, 1)})
