"""One pass over the timetable: fire each due schedule, plan each new one.

A page of rows is read, then fired in batches. While the server works on a batch, the next is planned here.
What was fired is logged at the end of the pass.

When a batch fails:

- the session is lost: the pass ends with ``SessionLost``;
- the database cannot do it now (out of memory, statement cancelled): the pass ends with a pause;
- a row is at fault: the batch is split in halves until the row stands alone. Bad data then make that schedule
  ``failed``; a row that cannot even be marked so is set aside by the backlog.
"""

import asyncio
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from pgreact import logs
from pgreact.broker.job_publisher import JobMessage
from pgreact.errors import SessionLost
from pgreact.postgres.errors import ErrorKind, classify, describe
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Trouble
from pgreact.timetable.backlog import Backlog, of_a_row
from pgreact.timetable.delivery import Delivery, Firing, FiringResult
from pgreact.timetable.measures import TimetableMeasures
from pgreact.timetable.planner import Plan, Schedule, actual, plan
from pgreact.timetable.schedule_row import from_record

SLICE = 0.001  # seconds of planning or logging before other tasks get the event loop
UNLOGGED = 10_000  # results at most before the pass ends and they are logged
_TIMES = ("at", "anchor", "start_at", "end_at", "next_nominal_at", "next_run_at", "last_nominal_at")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a pass ended.

    Attributes:
        results: By the schedules' ids; the other rows changed meanwhile, or another transaction has them
            locked.
        failure: Why the rest was not sent: the broker is away.
        pause: Seconds until the next try of the rest: the database cannot fire it now.
    """

    results: Mapping[int, FiringResult]
    failure: str | None = None
    pause: float | None = None


async def fire_due(
    session: Session, delivery: Delivery, backlog: Backlog, trouble: Trouble, measures: TimetableMeasures
) -> Outcome:
    """Make one pass: fire what is due and plan what is new, until no more is read.

    Args:
        session: Not used by another task meanwhile.
        delivery: How occurrences are fired.
        backlog: Reads the rows.
        trouble: Reports that none can be fired.
        measures: Counts what was fired.

    Raises:
        SessionLost: The session is gone.
    """
    one = _Pass(session, delivery, backlog, trouble, measures)
    try:
        await one.run()
    finally:
        while _log_some(one.unlogged, measures):
            pass
    return Outcome(one.results, one.failure, one.pause)


async def in_slices(work: Callable[[], bool]) -> None:
    """Call ``work``, which takes about a millisecond, until it returns false; other tasks run in between."""
    while work():  # noqa: ASYNC110 - it does not wait
        await asyncio.sleep(0)


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        session: Session,
        delivery: Delivery,
        backlog: Backlog,
        trouble: Trouble,
        measures: TimetableMeasures,
    ) -> None:
        self.results: dict[int, FiringResult] = {}
        self.unlogged: deque[FiringResult] = deque()
        self.failure: str | None = None
        self.pause: float | None = None
        self._session = session
        self._delivery = delivery
        self._backlog = backlog
        self._trouble = trouble
        self._measures = measures
        self._rows: Iterator[asyncpg.Record] = iter(())  # of the page, not planned yet
        self._planned: deque[Firing] = deque()
        self._enough = 1  # planned firings: the first batch is small, so that it goes out at once

    async def run(self) -> None:
        """Fire page after page; stop if broker or database cannot be used, or too much is unlogged."""
        self._backlog.begin()
        while (
            len(self.unlogged) <= UNLOGGED and (rows := await self._backlog.page(self._session)) is not None
        ):
            self._rows = iter(rows)
            while batch := await self._next_batch():
                await self._fire(batch)
                if self.failure is not None or self.pause is not None:
                    return
            self._backlog.dealt_with(rows, self.results)
        await in_slices(lambda: _log_some(self.unlogged, self._measures))

    async def _next_batch(self) -> list[Firing]:
        """Return the next planned batch; empty: the page is done."""
        await in_slices(lambda: len(self._planned) < self._enough and self._plan_some())
        self._enough = room = self._delivery.batch
        batch: list[Firing] = []
        while self._planned and room > 0:
            batch.append(self._planned.popleft())
            room -= max(len(batch[-1].plan.occurrences), 1)
        return batch

    def _plan_some(self) -> bool:
        """Plan for one slice, up to two batches ahead; return whether more is left to plan."""
        if len(self._planned) >= 2 * self._delivery.batch:
            return False
        end = time.monotonic() + SLICE
        for row in self._rows:
            self._planned.append(planned(row, self._delivery.messages))
            if time.monotonic() >= end:
                return True
        return False

    async def _fire(self, batch: Sequence[Firing]) -> None:
        """Fire a batch; search a row at fault by halves, so that it stops no other."""
        results: dict[int, FiringResult] = {}
        statement = asyncio.create_task(self._delivery.fire(self._session, batch, results))
        try:
            await asyncio.sleep(0)  # sends the statement
            await in_slices(lambda: not statement.done() and self._plan_some())
            self.failure = await statement
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a row is at fault, or it passes
            fault = error
        else:
            self._trouble.recovered()
            return
        finally:
            statement.cancel()
            await asyncio.wait({statement})
            self.results |= results
            self.unlogged += results.values()
        if not of_a_row(fault):
            self.pause = self._trouble.failed(fault)
        elif len(batch) > 1:
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                left = [firing for firing in half if firing.schedule.id not in results]
                if left and self.failure is None and self.pause is None:
                    await self._fire(left)
        elif classify(fault) is ErrorKind.DATA and not batch[0].plan.error:
            await self._fire([batch[0].failing(describe(fault))])
        else:
            self._backlog.set_aside(batch[0].schedule.id, batch[0].schedule.name, fault)


def planned(
    row: "asyncpg.Record | Mapping[str, Any]",
    messages: Callable[[Any, Schedule, Plan], Sequence[JobMessage]],
) -> Firing:
    """Return the firing of a row that ``timetable_due`` read; a faulty row's schedule fails.

    Args:
        row: The row.
        messages: Makes the messages of direct delivery; see :class:`pgreact.timetable.delivery.Delivery`.
    """
    found = from_record(row)
    try:
        decided = plan(found, row["now"])
        return Firing.of(found, decided, messages(row, found, decided), now=row["now"])
    except Exception as error:  # noqa: BLE001 - a fault in a library must stop this schedule, and no other
        infinite = [name for name in _TIMES if row[name] is not None and row[name].tzinfo is None]
        wrong = f"{', '.join(infinite)}: infinite" if infinite else f"{type(error).__name__}: {error}"
        return Firing.of(found, Plan(state="failed", last_nominal_at=None, error=wrong), now=row["now"])


def _log_some(unlogged: deque[FiringResult], measures: TimetableMeasures) -> bool:
    """Log and measure results for one slice; return whether more are left."""
    end = time.monotonic() + SLICE
    while unlogged and time.monotonic() < end:
        _log(unlogged.popleft(), measures)
    return bool(unlogged)


def _log(result: FiringResult, measures: TimetableMeasures) -> None:
    schedule, planned = result.firing.schedule, result.firing.plan
    name = schedule.name
    if result.error:
        logs.emit(logs.ScheduleFailed(schedule=name, error=result.error))
        return
    fired = planned.occurrences[: len(result.jobs)]  # without overlap, one of several
    overlapped = len(planned.occurrences) - len(fired)
    if planned.late or planned.missed or overlapped:
        measures.misfires += 1
        logs.emit(
            logs.ScheduleMisfired(
                schedule=name,
                policy="overlap" if overlapped else schedule.misfire,
                missed=planned.missed + overlapped,
                fired=len(fired),
            )
        )
    shown = logs.shows(logs.ScheduleFired)
    for occurrence, job, message in itertools.zip_longest(fired, result.jobs, result.firing.messages):
        due = occurrence if planned.manual else actual(name, occurrence, schedule.jitter)
        lateness = (result.fired_at - due).total_seconds()
        measures.lateness.observe(lateness)
        if shown:
            logs.emit(
                logs.ScheduleFired(
                    schedule=name,
                    occurrence=occurrence.isoformat(),
                    lateness_ms=round(lateness * 1000, 3),
                    job=job,
                    task_id=message.task_id if message is not None else None,
                )
            )
    if planned.state == "ended":
        logs.emit(logs.ScheduleEnded(schedule=name))
    elif schedule.state == "new" and planned.next_run_at is not None:
        logs.emit(logs.SchedulePlanned(schedule=name, next_run_at=planned.next_run_at.isoformat()))
