"""One look at the timetable: what is due is fired, what is new is planned."""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence

import asyncpg

from pgreact import logs
from pgreact.database.session import Session, refusal
from pgreact.shipped import query
from pgreact.timetable.planner import Plan, actual, plan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Delivery, Moved, Outcome, Step, work_on

TIMEOUT = 30.0  # seconds
SLICE = 0.001  # seconds of planning or telling: then others may have the event loop
UNTOLD = 10_000  # schedules: then the log has its turn, whatever else is due


async def play_round(session: Session, delivery: Delivery) -> Outcome:
    """Fire what is due and plan what is new, until one look finds all there is.

    While the server deals with some, the next are planned; what was fired is told at the end.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not use it.
    """
    untold: deque[Moved] = deque()
    moved: dict[int, Moved] = {}
    failure: str | None = None
    ahead = _Ahead(delivery)
    try:
        more = True
        while more:
            rows = await session.fetch(query("timetable_due"), delivery.name, delivery.look, timeout=TIMEOUT)
            ahead.find(rows)
            before = len(untold)
            while failure is None and (steps := await ahead.take()):
                outcome = await delivery.fire(session, steps, ahead.plan)
                moved |= outcome.moved
                untold += outcome.moved.values()
                failure = outcome.failure
            more = failure is None and len(rows) == delivery.look and before < len(untold) <= UNTOLD
        await work_on(lambda: _tell(untold))
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot fire schedules") from None
    finally:
        while _tell(untold):
            pass
    return Outcome(moved, failure)


class _Ahead:
    """The steps of what was found, planned while others are fired."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._rows: Iterator[asyncpg.Record] = iter(())
        self._planned: deque[Step] = deque()
        self._least = 1

    def find(self, rows: Sequence[asyncpg.Record]) -> None:
        """Go on with what a look found, after all that one before found."""
        self._rows = iter(rows)

    def plan(self) -> bool:
        """Plan some, if need be; return whether there may be more."""
        if len(self._planned) >= 2 * self._delivery.batch:
            return False
        end = time.monotonic() + SLICE
        for row in self._rows:
            self._planned.append(_step(self._delivery, row))
            if time.monotonic() >= end:
                return True
        return False

    async def take(self) -> list[Step]:
        """Return a batch; nothing: there is no more.

        The first is small, so that it goes out at once, and those after it are full.
        """
        await work_on(lambda: len(self._planned) < self._least and self.plan())
        self._least = left = self._delivery.batch
        steps: list[Step] = []
        while self._planned and left > 0:
            steps.append(self._planned.popleft())
            left -= max(len(steps[-1].plan.occurrences), 1)
        return steps


def _step(delivery: Delivery, row: asyncpg.Record) -> Step:
    found = schedule(row)
    try:
        planned = plan(found, row["now"])
        return Step.of(found, planned, delivery.messages(row, found, planned))
    except Exception as error:  # noqa: BLE001 - a fault in a library must stop this schedule, and no other
        wrong = f"{type(error).__name__}: {error}"
        return Step.of(found, Plan(state="failed", last_nominal_at=found.last_nominal_at, error=wrong))


def _tell(untold: deque[Moved]) -> bool:
    """Tell of some; return whether there are more."""
    end = time.monotonic() + SLICE
    while untold and time.monotonic() < end:
        _tell_one(untold.popleft())
    return bool(untold)


def _tell_one(moved: Moved) -> None:
    step = moved.step
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
        fired = itertools.zip_longest(planned.occurrences, moved.jobs, step.messages)
        for occurrence, job, message in fired:
            due = occurrence if planned.manual else actual(name, occurrence, step.schedule.jitter)
            logs.emit(
                logs.ScheduleFired(
                    schedule=name,
                    occurrence=occurrence.isoformat(),
                    lateness_ms=round((moved.fired_at - due).total_seconds() * 1000, 3),
                    job=job,
                    task_id=message.task_id if message is not None else None,
                )
            )
    if planned.state == "ended":
        logs.emit(logs.ScheduleEnded(schedule=name))
    elif step.schedule.state == "new" and planned.next_run_at is not None:
        logs.emit(logs.SchedulePlanned(schedule=name, next_run_at=planned.next_run_at.isoformat()))
