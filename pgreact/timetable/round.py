"""One look at the timetable: what is due is fired, what is new is planned."""

import asyncio
import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from pgreact import logs
from pgreact.database.session import Session, refusal
from pgreact.shipped import query
from pgreact.timetable.planner import Plan, actual, plan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Delivery, Moved, Outcome, Step

T = TypeVar("T")

LOOK = 10  # batches
TIMEOUT = 30.0  # seconds
BREATH = 50  # schedules: then others may have the event loop


async def play_round(session: Session, delivery: Delivery) -> Outcome:
    """Fire what is due and plan what is new, so much of it as one look finds.

    While the server, and the broker, deal with one batch, the next is planned; the log has what time is left.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not use it.
    """
    batch = delivery.batch
    moved: dict[int, Moved] = {}
    untold: deque[Step] = deque()
    outcome = Outcome({})
    try:
        rows = await session.fetch(query("timetable_due"), delivery.name, LOOK * batch, timeout=TIMEOUT)
        following = await _plan(rows[:batch])
        for begin in range(0, len(rows), batch):
            steps = following
            async with _started(delivery.fire(session, steps)) as firing:
                following = await _plan(rows[begin + batch : begin + 2 * batch])
                while untold and not firing.done():
                    _tell(untold, moved)
                    await asyncio.sleep(0)
                outcome = await firing
            moved |= outcome.moved
            untold += steps
            if outcome.failure:
                break
        while untold:
            _tell(untold, moved)
            await asyncio.sleep(0)
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot fire schedules") from None
    finally:
        while untold:
            _tell(untold, moved)
    return dataclasses.replace(outcome, moved=moved)


@contextlib.asynccontextmanager
async def _started(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Let something go on during the block, and no longer."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _plan(rows: Sequence[asyncpg.Record]) -> list[Step]:
    steps: list[Step] = []
    for begin in range(0, len(rows), BREATH):
        await asyncio.sleep(0)
        steps += map(_step, rows[begin : begin + BREATH])
    return steps


def _tell(untold: deque[Step], moved: Mapping[int, Moved]) -> None:
    """Tell of some steps."""
    for _ in range(min(BREATH, len(untold))):
        step = untold.popleft()
        if step.schedule.id in moved:
            _tell_one(step, moved[step.schedule.id])


def _step(row: asyncpg.Record) -> Step:
    found = schedule(row)
    try:
        planned = plan(found, row["now"])
    except Exception as error:  # noqa: BLE001 - a fault in a library must stop this schedule, and no other
        wrong = f"{type(error).__name__}: {error}"
        planned = Plan(state="failed", last_nominal_at=found.last_nominal_at, error=wrong)
    return Step(found, planned, row["now"])


def _tell_one(step: Step, moved: Moved) -> None:
    name, planned = step.schedule.name, step.plan
    if moved.error:
        logs.emit(logs.ScheduleFailed(schedule=name, error=moved.error))
        return
    if planned.late or moved.overlapped:
        logs.emit(
            logs.ScheduleMisfired(
                schedule=name,
                policy="overlap" if moved.overlapped else step.schedule.misfire,
                missed=planned.missed + (len(planned.occurrences) if moved.overlapped else 0),
                fired=0 if moved.overlapped else len(planned.occurrences),
            )
        )
    if not moved.overlapped and logs.shows(logs.ScheduleFired):
        fired = itertools.zip_longest(planned.occurrences, moved.jobs, moved.task_ids)
        for occurrence, job, task_id in fired:
            due = occurrence if planned.manual else actual(name, occurrence, step.schedule.jitter)
            logs.emit(
                logs.ScheduleFired(
                    schedule=name,
                    occurrence=occurrence.isoformat(),
                    lateness_ms=round((moved.fired_at - due).total_seconds() * 1000, 3),
                    job=job,
                    task_id=task_id,
                )
            )
    if planned.state == "ended":
        logs.emit(logs.ScheduleEnded(schedule=name))
    elif step.schedule.state == "new" and planned.next_run_at is not None:
        logs.emit(logs.SchedulePlanned(schedule=name, next_run_at=planned.next_run_at.isoformat()))
