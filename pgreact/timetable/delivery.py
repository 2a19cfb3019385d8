"""Fire a batch of schedules: enqueue a job for each due occurrence, or send a message.

- ``QueueDelivery``: the statement that writes the schedules' next plans enqueues their jobs, too.
- ``DirectDelivery``: the statement writes the next plans and locks the rows; the messages are sent; the
  commit confirms both. After a crash in between, the messages are sent again under the same task ids.
"""

import dataclasses
import datetime
import hashlib
import json
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

import asyncpg

from pgreact.broker.connection import PublishFailed
from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.postgres.session import Session
from pgreact.timetable.planner import Plan, Schedule, actual

TIMEOUT = 30.0  # seconds for a batch
LOCKED_FOR = 0.25  # seconds: about how long rows stay locked while their messages are sent
FEWEST, MOST = 10, 500  # messages sent at a time
_TASK_IDS = uuid.UUID("5d3a8f0e-6b0c-5f57-9a35-0c8a1f6f7d11")  # a constant namespace


@dataclasses.dataclass(slots=True)
class Firing:
    """A schedule as it was read, and its plan.

    Attributes:
        schedule: As it was read.
        plan: What to fire now, and the row's next state.
        messages: Of direct delivery: one for each occurrence.
        now: The database's time that the plan was made for.
        text: The plan as ``pgreact.fire`` reads it, in JSON.
    """

    schedule: Schedule
    plan: Plan
    messages: Sequence[JobMessage]
    now: datetime.datetime
    text: str

    @classmethod
    def of(
        cls, schedule: Schedule, plan: Plan, messages: Sequence[JobMessage] = (), *, now: datetime.datetime
    ) -> "Firing":
        """Return the firing that carries out a plan."""
        occurrences = [moment.isoformat() for moment in plan.occurrences]
        nominal, run, last = plan.next_nominal_at, plan.next_run_at, plan.last_nominal_at
        next_nominal = _iso(nominal)
        # Each moment is formatted once: formatting is a good part of the cost of firing thousands at once.
        fields = {
            "id": schedule.id,
            "revision": schedule.revision,
            "state": plan.state,
            "occurrences": occurrences,
            "task_ids": [message.task_id for message in messages] or None,
            "next_nominal_at": next_nominal,
            "next_run_at": next_nominal if run is nominal else _iso(run),
            "last_nominal_at": occurrences[-1]
            if occurrences and plan.occurrences[-1] is last
            else _iso(last),
            "missed": plan.missed,
            "error": plan.error,
            "planned_at": now.isoformat(),
        }
        if plan.replanned_at is not None:
            fields["replanned_at"] = plan.replanned_at.isoformat()
        return cls(schedule, plan, messages, now, json.dumps(fields))

    def failing(self, error: str) -> "Firing":
        """Return the firing that stops the schedule with an error."""
        plan = dataclasses.replace(
            self.plan, occurrences=(), state="failed", next_nominal_at=None, next_run_at=None, error=error
        )
        return Firing.of(self.schedule, plan, now=self.now)

    def first(self, count: int) -> "Firing":
        """Return the firing of only the first ``count`` occurrences, which leaves the others due."""
        occurrences, due = self.plan.occurrences[:count], self.plan.occurrences[count]
        plan = dataclasses.replace(
            self.plan,
            occurrences=occurrences,
            state="planned",
            next_nominal_at=due,
            next_run_at=actual(self.schedule.name, due, self.schedule.jitter),
            last_nominal_at=occurrences[-1],
        )
        return Firing.of(self.schedule, plan, self.messages[:count], now=self.now)


@dataclasses.dataclass(slots=True)
class FiringResult:
    """The effects of a committed firing.

    Attributes:
        firing: What was asked for.
        fired_at: When, by the database's clock.
        error: Why the schedule stopped.
        jobs: One for each occurrence that was fired; ``None``: a message was sent. Without overlap, none is
            fired while the job of the previous occurrence is not done.
    """

    firing: Firing
    fired_at: datetime.datetime
    error: str | None
    jobs: Sequence[int | None]


class Delivery(Protocol):
    """How occurrences are fired.

    Attributes:
        name: As in the column ``delivery``.
        page: Schedules read at a time.
        batch: Occurrences fired at a time, at most, unless one schedule alone has more.
    """

    name: str
    page: int
    batch: int

    def messages(self, row: asyncpg.Record, schedule: Schedule, plan: Plan) -> Sequence[JobMessage]:
        """Return the messages to send for a row that ``timetable_due`` read; none for jobs."""
        ...

    async def fire(
        self, session: Session, firings: Sequence[Firing], results: dict[int, FiringResult]
    ) -> str | None:
        """Fire what is due and write the next plans, each schedule in one and the same transaction.

        Args:
            session: Not used by another task meanwhile.
            firings: The batch.
            results: Receives what was committed, by the schedules' ids, at once.

        Returns:
            Why the rest was not sent, if the broker is away.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused the statement, or its answer cannot be read.
        """
        ...


class Post(Protocol):
    """The publisher that direct delivery needs."""

    async def post(self, messages: Sequence[JobMessage]) -> PublishResult:
        """Publish messages; see :class:`pgreact.broker.job_publisher.JobPublisher`."""
        ...


class QueueDelivery:
    """Enqueues a job for each occurrence, in the statement that writes the next plan."""

    name = "queue"
    page = 10_000
    batch = 1000

    def messages(self, _row: asyncpg.Record, _schedule: Schedule, _plan: Plan) -> Sequence[JobMessage]:
        """Return none; see :class:`Delivery`."""
        return ()

    async def fire(
        self, session: Session, firings: Sequence[Firing], results: dict[int, FiringResult]
    ) -> str | None:
        """Fire; see :class:`Delivery`."""
        results |= await fire(session, firings)
        return None


class DirectDelivery:
    """Sends a message for each occurrence, then commits the next plans."""

    name = "direct"
    page = 2000  # their arguments are read, too

    def __init__(self, post: Post) -> None:
        """``post`` sends the messages."""
        self._post = post
        self.batch = MOST

    def messages(self, row: asyncpg.Record, schedule: Schedule, plan: Plan) -> Sequence[JobMessage]:
        """Return one for each occurrence; see :class:`Delivery`."""
        return direct_messages(row, schedule, plan)

    async def fire(
        self, session: Session, firings: Sequence[Firing], results: dict[int, FiringResult]
    ) -> str | None:
        """Fire; see :class:`Delivery`."""
        results |= await fire(session, [firing for firing in firings if not firing.messages])
        due = [firing for firing in firings if firing.messages]
        return await self._send(session, due, results) if due else None

    async def _send(
        self, session: Session, firings: Sequence[Firing], results: dict[int, FiringResult]
    ) -> str | None:
        try:
            async with session.transaction():
                # The rows are locked from here on: no other session sends them, and edits wait.
                written = await fire(session, firings)
                locked = [firing for firing in firings if _fired(written.get(firing.schedule.id))]
                messages = [message for firing in locked for message in firing.messages]
                began = time.monotonic()
                posted = await self._post.post(messages)
                if messages:
                    self._adapt(len(posted.sent), time.monotonic() - began)
                if posted.failure or posted.refused:
                    raise _PartlySentError(posted)
        except PublishFailed as error:
            self.batch = FEWEST
            return str(error)
        except _PartlySentError as partly:
            posted = partly.posted
        else:
            results |= written
            return None
        sent = {message.task_id for message in posted.sent}
        refused = {message.task_id: reason for message, reason in posted.refused}
        done = [after for firing in locked if (after := _after(firing, sent, refused)) is not None]
        results |= await fire(session, done)
        return posted.failure

    def _adapt(self, sent: int, seconds: float) -> None:
        """Size the next batch by the broker's pace, so that its rows stay locked for ``LOCKED_FOR``."""
        self.batch = min(max(FEWEST, int(sent * LOCKED_FOR / max(seconds, 0.001))), MOST)


class _PartlySentError(Exception):
    """Not all messages of the transaction were sent: it must be rolled back."""

    def __init__(self, posted: PublishResult) -> None:
        super().__init__(posted.failure)
        self.posted = posted


async def fire(session: Session, firings: Sequence[Firing]) -> dict[int, FiringResult]:
    """Carry out plans in one statement.

    Args:
        session: Not used by another task meanwhile.
        firings: The plans.

    Returns:
        The results by the schedules' ids. A schedule is missing if its row changed since it was read, or if
        another transaction has it locked.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused the statement, or its answer cannot be read.
    """
    if not firings:
        return {}
    plans = f"[{','.join(firing.text for firing in firings)}]"
    rows = await session.fetch("select * from pgreact.fire($1)", plans, timeout=TIMEOUT)
    of = {firing.schedule.id: firing for firing in firings}
    return {
        row["id"]: FiringResult(of[row["id"]], row["fired_at"], row["error"], row["jobs"]) for row in rows
    }


def _fired(result: FiringResult | None) -> bool:
    return result is not None and result.error is None


def _after(firing: Firing, sent: Container[str], refused: Mapping[str, str]) -> Firing | None:
    """Return the firing that matches what was sent; none if no message is known to be sent."""
    for number, message in enumerate(firing.messages):
        if message.task_id in refused:
            return firing.failing(refused[message.task_id])
        if message.task_id not in sent:
            # Keeps what was sent, so that a schedule with more to catch up than fits in time makes progress.
            return firing.first(number) if number else None
    return firing


def direct_messages(
    row: asyncpg.Record | Mapping[str, Any], schedule: Schedule, plan: Plan
) -> Sequence[JobMessage]:
    """Return the messages of direct delivery, one for each occurrence.

    Args:
        row: As ``timetable_due`` read it.
        schedule: The row's.
        plan: The schedule's.
    """
    return [_message(row, schedule, occurrence) for occurrence in plan.occurrences]


def task_id(schedule: int, occurrence: str) -> str:
    """Return the id of an occurrence's message: ``uuid5`` of both, written out since its class costs more.

    Args:
        schedule: The schedule's id.
        occurrence: The nominal time.
    """
    found = hashlib.sha1(
        _TASK_IDS.bytes + f"{schedule}/{occurrence}".encode(), usedforsecurity=False
    ).hexdigest()
    variant = "89ab"[int(found[16], 16) & 3]
    return f"{found[:8]}-{found[8:12]}-5{found[13:16]}-{variant}{found[17:20]}-{found[20:32]}"


def _message(
    row: asyncpg.Record | Mapping[str, Any], schedule: Schedule, occurrence: datetime.datetime
) -> JobMessage:
    named = occurrence.isoformat()
    return JobMessage(
        job=None,
        attempt=1,
        task_id=task_id(schedule.id, named),
        task=row["task"],
        args=row["args"],
        kwargs=row["kwargs"],
        options=row["options"],
        headers={"periodic_task_name": schedule.name, "pgreact_occurrence": named},
        expires=None if row["expires"] is None else row["expires"].total_seconds(),
    )


def _iso(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
