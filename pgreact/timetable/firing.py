"""One look at the timetable: what is due is fired, what is new is planned."""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence

import asyncpg

from pgreact import logs
from pgreact.errors import SessionLost
from pgreact.postgres.errors import Meaning, meaning, said
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Trouble
from pgreact.timetable.backlog import Backlog, of_a_row
from pgreact.timetable.planner import Plan, actual, plan
from pgreact.timetable.row import schedule
from pgreact.timetable.step import Delivery, Moved, Outcome, Step, work_on

SLICE = 0.001  # seconds of planning or telling: then others may have the event loop
_TIMES = ("at", "anchor", "start_at", "end_at", "next_nominal_at", "next_run_at", "last_nominal_at")
UNTOLD = 10_000  # schedules: then the log has its turn, whatever else is due


async def play_round(session: Session, delivery: Delivery, backlog: Backlog, firing: Trouble) -> Outcome:
    """Fire what is due and plan what is new, until one look finds all there is.

    While the server deals with some, the next are planned; what was fired is told at the end.

    Args:
        session: Nobody else uses it now.
        delivery: How they are fired.
        backlog: Finds them.
        firing: Reports that none can be fired.

    Raises:
        SessionLost: The session is gone.
    """
    one = _Round(session, delivery, backlog, firing)
    try:
        await one.play()
    finally:
        while _tell(one.untold):
            pass
    return Outcome(one.moved, one.failure, one.pause)


class _Round:
    """One look at the timetable, and what came of it so far."""

    def __init__(self, session: Session, delivery: Delivery, backlog: Backlog, firing: Trouble) -> None:
        self.moved: dict[int, Moved] = {}
        self.untold: deque[Moved] = deque()
        self.failure: str | None = None
        self.pause: float | None = None
        self._session = session
        self._delivery = delivery
        self._backlog = backlog
        self._firing = firing
        self._ahead = _Ahead(delivery)

    async def play(self) -> None:
        """Go through all pages; stop when the broker or the database cannot be used, or the log is behind."""
        self._backlog.begin()
        while len(self.untold) <= UNTOLD and (rows := await self._backlog.page(self._session)) is not None:
            self._ahead.find(rows)
            while steps := await self._ahead.take():
                await self._fire(steps)
                if self.failure is not None or self.pause is not None:
                    return
            self._backlog.dealt_with(rows, self.moved)
        await work_on(lambda: _tell(self.untold))

    async def _fire(self, steps: Sequence[Step]) -> None:
        """Fire a batch; if a row is at fault, it is looked for by halves, so that it stops no other."""
        moved: dict[int, Moved] = {}
        try:
            self.failure = await self._delivery.fire(self._session, steps, self._ahead.plan, moved)
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - it is a row's, or passes
            fault = error
        else:
            self._firing.over()
            return
        finally:
            self.moved |= moved
            self.untold += moved.values()
        if not of_a_row(fault):
            self.pause = self._firing.failed(fault)
        elif len(steps) > 1:
            for half in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
                left = [step for step in half if step.schedule.id not in moved]
                if left and self.failure is None and self.pause is None:
                    await self._fire(left)
        elif meaning(fault) is Meaning.DATA and not steps[0].plan.error:
            await self._fire([steps[0].failing(said(fault))])
        else:
            self._backlog.set_aside(steps[0].schedule.id, steps[0].schedule.name, fault)


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
        endless = [name for name in _TIMES if row[name] is not None and row[name].tzinfo is None]
        wrong = f"{', '.join(endless)}: infinite" if endless else f"{type(error).__name__}: {error}"
        return Step.of(found, Plan(state="failed", last_nominal_at=None, error=wrong))


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
    fired = planned.occurrences[: len(moved.jobs)]  # without overlap, one of several
    overlapped = len(planned.occurrences) - len(fired)
    if planned.late or planned.missed or overlapped:
        logs.emit(
            logs.ScheduleMisfired(
                schedule=name,
                policy="overlap" if overlapped else step.schedule.misfire,
                missed=planned.missed + overlapped,
                fired=len(fired),
            )
        )
    if fired and logs.shows(logs.ScheduleFired):
        for occurrence, job, message in itertools.zip_longest(fired, moved.jobs, step.messages):
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
