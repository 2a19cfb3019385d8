"""Plans anew what a clock that was far ahead put off for years.

A clock that stood in another year for some seconds leaves schedules planned from there. Nothing of them is
due, so no other look at the timetable reads them.
"""

import time
from collections.abc import Iterator

import asyncpg

from pgreact import logs
from pgreact.database.session import Session
from pgreact.shipped import query
from pgreact.timetable.delivery import TIMEOUT, fire
from pgreact.timetable.planner import AHEAD, replan
from pgreact.timetable.round import SLICE
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Step, work_on

PAGE = 500  # schedules read at a time


async def replan_all(session: Session) -> None:
    """Plan anew each schedule whose next run its rule does not explain by the present clock.

    Args:
        session: Nobody else uses it now.

    Raises:
        SessionLost: The session is gone.
        asyncpg.PostgresError: The server refused it.
    """
    place = 0
    while rows := await session.fetch(query("timetable_ahead"), place, PAGE, AHEAD, timeout=TIMEOUT):
        place = rows[-1]["id"]
        steps: list[Step] = []
        left = iter(rows)
        await work_on(lambda: _look(left, steps))  # noqa: B023 - it is done before the next page
        for moved in (await fire(session, steps, lambda: False)).values():
            found, plan = moved.step.schedule, moved.step.plan
            if moved.error is None and plan.next_run_at is not None:
                logs.emit(
                    logs.ScheduleReplanned(
                        schedule=found.name,
                        next_run_at=plan.next_run_at.isoformat(),
                        instead_of=found.next_run_at.isoformat() if found.next_run_at else None,
                    )
                )


def _look(rows: Iterator[asyncpg.Record], steps: list[Step]) -> bool:
    """Look at some; return whether there may be more."""
    end = time.monotonic() + SLICE
    for row in rows:
        found = schedule(row)
        if (plan := replan(found, row["now"])) is not None:
            steps.append(Step.of(found, plan))
        if time.monotonic() >= end:
            return True
    return False
