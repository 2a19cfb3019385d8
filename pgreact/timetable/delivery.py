"""The two ways an occurrence is fired: as a job of the queue, or as a message sent from here."""

import asyncio
import datetime
import time
import uuid
from collections.abc import Container, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import asyncpg

from pgreact.broker.connection import PublishFailed
from pgreact.broker.job_publisher import JobMessage, Posted
from pgreact.postgres.session import Session
from pgreact.timetable.planner import Plan, Schedule
from pgreact.timetable.step import Moved, Step, Work, work_on

T = TypeVar("T")

TIMEOUT = 30.0  # seconds for a batch
HOLD = 0.25  # seconds that the rows whose messages are sent are locked, about
FEW, MANY = 10, 500  # messages sent at a time
_OCCURRENCES = uuid.UUID("5d3a8f0e-6b0c-5f57-9a35-0c8a1f6f7d11")  # any, yet always the same


class Post(Protocol):
    """What direct delivery needs of Celery."""

    async def post(self, messages: Sequence[JobMessage]) -> Posted:
        """Publish messages; see :class:`pgreact.broker.job_publisher.JobPublisher`."""
        ...


class QueueDelivery:
    """Enqueues a job for each occurrence, in the transaction that moves the schedule on."""

    name = "queue"
    look = 10_000
    batch = 1000

    def messages(self, _row: asyncpg.Record, _schedule: Schedule, _plan: Plan) -> Sequence[JobMessage]:
        """Return none; see :class:`pgreact.timetable.step.Delivery`."""
        return ()

    async def fire(
        self, session: Session, steps: Sequence[Step], meanwhile: Work, moved: dict[int, Moved]
    ) -> str | None:
        """Fire; see :class:`pgreact.timetable.step.Delivery`."""
        moved |= await fire(session, steps, meanwhile)
        return None


class DirectDelivery:
    """Sends a message for each occurrence, then commits that the schedule has moved on.

    After a crash in between it is sent again, under the same task id.
    """

    name = "direct"
    look = 2000  # with their arguments

    def __init__(self, post: Post) -> None:
        """``post`` sends the messages."""
        self._post = post
        self.batch = MANY

    def messages(self, row: asyncpg.Record, schedule: Schedule, plan: Plan) -> Sequence[JobMessage]:
        """Return one for each occurrence; see :class:`pgreact.timetable.step.Delivery`."""
        return [_message(row, schedule, occurrence) for occurrence in plan.occurrences]

    async def fire(
        self, session: Session, steps: Sequence[Step], meanwhile: Work, moved: dict[int, Moved]
    ) -> str | None:
        """Fire; see :class:`pgreact.timetable.step.Delivery`."""
        moved |= await fire(session, [step for step in steps if not step.messages], meanwhile)
        due = [step for step in steps if step.messages]
        return await self._send(session, due, meanwhile, moved) if due else None

    async def _send(
        self, session: Session, steps: Sequence[Step], meanwhile: Work, moved: dict[int, Moved]
    ) -> str | None:
        try:
            async with session.transaction():
                # The rows stay locked from here on: no other session sends them, and edits wait for it.
                firing = await fire(session, steps, meanwhile)
                held = [step for step in steps if _fired(firing.get(step.schedule.id))]
                messages = [message for step in held for message in step.messages]
                began = time.monotonic()
                posted = await self._post.post(messages)
                if messages:
                    self._adapt(len(posted.sent), time.monotonic() - began)
                if posted.failure or posted.refused:
                    raise _PartlySentError(posted)
        except PublishFailed as error:
            self.batch = FEW
            return str(error)
        except _PartlySentError as partly:
            posted = partly.posted
        else:
            moved |= firing
            return None
        sent = {message.task_id for message in posted.sent}
        refused = {message.task_id: reason for message, reason in posted.refused}
        done = [after for step in held if (after := _after(step, sent, refused)) is not None]
        moved |= await fire(session, done, meanwhile)
        return posted.failure

    def _adapt(self, sent: int, seconds: float) -> None:
        """Send no more at a time than the broker takes while nobody minds that the rows are locked."""
        self.batch = min(max(FEW, int(sent * HOLD / max(seconds, 0.001))), MANY)


class _PartlySentError(Exception):
    """The transaction says of more schedules that they were fired than were."""

    def __init__(self, posted: Posted) -> None:
        super().__init__(posted.failure)
        self.posted = posted


def _fired(moved: Moved | None) -> bool:
    return moved is not None and moved.error is None


def _after(step: Step, sent: Container[str], refused: Mapping[str, str]) -> Step | None:
    """Return the step that is true now that its messages were posted; none if none is known to be sent."""
    for number, message in enumerate(step.messages):
        if message.task_id in refused:
            return step.failing(refused[message.task_id])
        if message.task_id not in sent:
            # so that one that has more to catch up with than can be sent in time gets on
            return step.first(number) if number else None
    return step


async def fire(session: Session, steps: Sequence[Step], meanwhile: Work) -> dict[int, Moved]:
    """Do what was planned, in one statement; return what became of it, by the schedules' ids."""
    if not steps:
        return {}
    plans = f"[{','.join(step.text for step in steps)}]"
    rows = await _working(session.fetch("select * from pgreact.fire($1)", plans, timeout=TIMEOUT), meanwhile)
    done = {step.schedule.id: step for step in steps}
    return {row["id"]: Moved(done[row["id"]], row["fired_at"], row["error"], row["jobs"]) for row in rows}


async def _working(statement: Coroutine[Any, Any, T], meanwhile: Work) -> T:
    """Run a statement, and work while the server does.

    Messages are sent by a thread, which would get on no faster if this one worked beside it.
    """
    task = asyncio.create_task(statement)
    try:
        await asyncio.sleep(0)  # it is sent
        await work_on(lambda: not task.done() and meanwhile())
        return await task
    finally:
        task.cancel()
        await asyncio.wait({task})


def _message(row: asyncpg.Record, schedule: Schedule, occurrence: datetime.datetime) -> JobMessage:
    named = occurrence.isoformat()
    return JobMessage(
        job=None,
        attempt=1,
        task_id=str(uuid.uuid5(_OCCURRENCES, f"{schedule.id}/{named}")),
        task=row["task"],
        args=row["args"],
        kwargs=row["kwargs"],
        options=row["options"],
        headers={"periodic_task_name": schedule.name, "pgreact_occurrence": named},
        expires=None if row["expires"] is None else row["expires"].total_seconds(),
    )
