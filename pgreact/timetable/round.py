"""One look at the timetable: what is due is fired, what is new is planned."""

import asyncio
import dataclasses
import itertools
from collections.abc import Sequence

import asyncpg

from pgreact import logs
from pgreact.database.session import Session, refusal
from pgreact.shipped import query
from pgreact.timetable.planner import Plan, actual, plan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Delivery, Moved, Outcome, Step

LOOK = 10  # batches
TIMEOUT = 30.0  # seconds
BREATH = 50  # schedules: then others may have the event loop


async def play_round(session: Session, delivery: Delivery) -> Outcome:
    """Fire what is due and plan what is new, so much of it as one look finds.

    While the server, and the broker, deal with one batch, the next is planned and the one before is told of.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not use it.
    """
    moved: dict[int, Moved] = {}
    steps: Sequence[Step] = ()
    outcome = Outcome({})
    try:
        batch = delivery.batch
        rows = await session.fetch(query("timetable_due"), delivery.name, LOOK * batch, timeout=TIMEOUT)
        following = await _plan(rows[:batch])
        for begin in range(0, len(rows), batch):
            before, steps = steps, following
            later = rows[begin + batch : begin + 2 * batch]
            outcome, following = await asyncio.gather(
                delivery.fire(session, steps), _meanwhile(before, outcome, later)
            )
            moved |= outcome.moved
            if outcome.failure:
                break
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot fire schedules") from None
    await _tell(steps, outcome)
    return dataclasses.replace(outcome, moved=moved)


async def _meanwhile(fired: Sequence[Step], outcome: Outcome, rows: Sequence[asyncpg.Record]) -> list[Step]:
    await _tell(fired, outcome)
    return await _plan(rows)


async def _plan(rows: Sequence[asyncpg.Record]) -> list[Step]:
    steps: list[Step] = []
    for begin in range(0, len(rows), BREATH):
        await asyncio.sleep(0)
        steps += map(_step, rows[begin : begin + BREATH])
    return steps


async def _tell(steps: Sequence[Step], outcome: Outcome) -> None:
    for begin in range(0, len(steps), BREATH):
        await asyncio.sleep(0)
        for step in steps[begin : begin + BREATH]:
            if (moved := outcome.moved.get(step.schedule.id)) is not None:
                _tell_one(step, moved)


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
