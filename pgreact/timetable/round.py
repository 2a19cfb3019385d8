"""One look at the timetable: what is due is fired, what is new is planned."""

import itertools

import asyncpg

from pgreact import logs
from pgreact.database.session import Session, refusal
from pgreact.shipped import query
from pgreact.timetable.planner import actual, plan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Delivery, Moved, Outcome, Step

BATCH = 1000  # schedules
TIMEOUT = 30.0  # seconds


async def play_round(session: Session, delivery: Delivery) -> Outcome:
    """Fire what is due and plan what is new, a batch of it.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not use it.
    """
    try:
        rows = await session.fetch(query("timetable_due"), delivery.name, BATCH, timeout=TIMEOUT)
        steps = [_step(row) for row in rows]
        outcome = await delivery.fire(session, steps)
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot fire schedules") from None
    for step in steps:
        if step.schedule.id in outcome.moved:
            _tell(step, outcome.moved[step.schedule.id])
    return outcome


def _step(row: asyncpg.Record) -> Step:
    found = schedule(row)
    return Step(found, plan(found, row["now"]), row["now"])


def _tell(step: Step, moved: Moved) -> None:
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
    if not moved.overlapped:
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
