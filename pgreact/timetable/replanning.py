"""Plans anew what a clock that was far ahead put off for years.

A clock that stood in another year for some seconds leaves schedules planned from there. Nothing of them is
due, so no other look at the timetable reads them.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

import asyncpg

from pgreact import logs
from pgreact.errors import SessionLost
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.timetable.backlog import of_a_row
from pgreact.timetable.delivery import TIMEOUT, fire
from pgreact.timetable.firing import SLICE
from pgreact.timetable.planner import AHEAD, replan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Moved, Step, work_on

PAGE = 500  # schedules read at a time


async def replan_all(session: Session, troubles: Troubles) -> None:
    """Plan anew each schedule whose next run its rule does not explain by the present clock.

    Args:
        session: Nobody else uses it now.
        troubles: Where a row is reported that cannot be planned anew.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused it, and not for a row's sake.
    """
    place = 0
    while rows := await session.fetch(query("timetable_ahead"), place, PAGE, AHEAD, timeout=TIMEOUT):
        place = rows[-1]["id"]
        steps: list[Step] = []
        left = iter(rows)
        await work_on(lambda: _look(left, steps))  # noqa: B023 - it is done before the next page
        await _move(session, steps, troubles)


async def _move(session: Session, steps: Sequence[Step], troubles: Troubles) -> None:
    """Write the new plans; if a row is at fault, each by itself, so that it stops no other."""
    try:
        moved = await fire(session, steps, lambda: False)
    except SessionLost:
        raise
    except Exception as error:
        if not of_a_row(error):
            raise
        for step in steps if len(steps) > 1 else ():
            await _move(session, [step], troubles)
        if len(steps) == 1:
            troubles[_subject(steps[0])].failed(error)
        return
    for done in moved.values():
        _tell(done)
        troubles.forget(_subject(done.step))


def _subject(step: Step) -> str:
    return f"new plan of schedule {step.schedule.name[:200]}"


def _tell(moved: Moved) -> None:
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
        # what nobody can compute is found when it is due
        with contextlib.suppress(Exception):
            found = schedule(row)
            if (plan := replan(found, row["now"])) is not None:
                steps.append(Step.of(found, plan))
        if time.monotonic() >= end:
            return True
    return False
