"""Correct plans that were made while the database's clock was far ahead.

A clock that shows a wrong year for some seconds leaves schedules planned from there. They are not due for
years, so no pass of the engine reads them.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import asyncpg

from pgreact import logs
from pgreact.errors import SessionLost
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.timetable.backlog import of_a_row
from pgreact.timetable.delivery import TIMEOUT, Firing, FiringResult, fire
from pgreact.timetable.firing import SLICE, in_slices
from pgreact.timetable.planner import AHEAD, replan
from pgreact.timetable.schedule_row import from_record

if TYPE_CHECKING:
    import datetime

PAGE = 500  # schedules read at a time


async def replan_all(session: Session, troubles: Troubles) -> None:
    """Plan anew each schedule whose next run its rule does not explain by the present clock.

    Args:
        session: Not used by another task meanwhile.
        troubles: Where a row that cannot be planned anew is reported.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused a statement, and no row is at fault.
    """
    place: tuple[datetime.datetime | None, int] = None, 0
    while rows := await session.fetch(query("timetable_ahead"), *place, PAGE, AHEAD, timeout=TIMEOUT):
        place = rows[-1]["planned_at"], rows[-1]["id"]
        firings: list[Firing] = []
        left = iter(rows)
        await in_slices(lambda: _plan_some(left, firings))  # noqa: B023 - it ends before the next page
        await _write(session, firings, troubles)


async def _write(session: Session, firings: Sequence[Firing], troubles: Troubles) -> None:
    """Write the new plans; if a row is at fault, each by itself, so that it stops no other."""
    try:
        results = await fire(session, firings)
    except SessionLost:
        raise
    except Exception as error:
        if not of_a_row(error):
            raise
        for firing in firings if len(firings) > 1 else ():
            await _write(session, [firing], troubles)
        if len(firings) == 1:
            troubles[_subject(firings[0])].failed(error)
        return
    for result in results.values():
        _log(result)
        troubles.forget(_subject(result.firing))


def _subject(firing: Firing) -> str:
    return f"new plan of schedule {firing.schedule.name[:200]}"


def _log(result: FiringResult) -> None:
    found, plan = result.firing.schedule, result.firing.plan
    if result.error is None and plan.next_run_at is not None:
        logs.emit(
            logs.ScheduleReplanned(
                schedule=found.name,
                next_run_at=plan.next_run_at.isoformat(),
                instead_of=found.next_run_at.isoformat() if found.next_run_at else None,
            )
        )


def _plan_some(rows: Iterator[asyncpg.Record], firings: list[Firing]) -> bool:
    """Plan for one slice; return whether more rows are left."""
    end = time.monotonic() + SLICE
    for row in rows:
        # what cannot be computed makes the schedule failed when it is due
        with contextlib.suppress(Exception):
            found = from_record(row)
            if (plan := replan(found, row["now"])) is not None:
                firings.append(Firing.of(found, plan, now=row["now"]))
        if time.monotonic() >= end:
            return True
    return False
