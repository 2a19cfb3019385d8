"""The two ways an occurrence is fired: as a job of the queue, or as a message sent from here."""

import datetime
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

import asyncpg

from pgreact.database.session import Session, said
from pgreact.dispatch.jobs import JobMessage, Posted
from pgreact.dispatch.wire import PublishFailed
from pgreact.shipped import query
from pgreact.timetable.step import Moved, Outcome, Step

TIMEOUT = 30.0  # seconds for a batch
_OCCURRENCES = uuid.UUID("5d3a8f0e-6b0c-5f57-9a35-0c8a1f6f7d11")  # any, yet always the same


class Post(Protocol):
    """What direct delivery needs of Celery."""

    async def post(self, messages: Sequence[JobMessage]) -> Posted:
        """Publish messages; see :class:`pgreact.dispatch.jobs.JobPublisher`."""
        ...


class QueueDelivery:
    """Enqueues a job for each occurrence, in the transaction that moves the schedule on."""

    name = "queue"
    batch = 1000

    async def fire(self, session: Session, steps: Sequence[Step]) -> Outcome:
        """Fire; see :class:`pgreact.timetable.step.Delivery`."""
        return Outcome(await _fire(session, steps, {}))


class DirectDelivery:
    """Sends a message for each occurrence, then commits that the schedule has moved on.

    After a crash in between it is sent again, under the same task id.
    """

    name = "direct"
    batch = 100  # the broker has to take their messages while the rows are locked

    def __init__(self, post: Post) -> None:
        self._post = post

    async def fire(self, session: Session, steps: Sequence[Step]) -> Outcome:
        """Fire; see :class:`pgreact.timetable.step.Delivery`."""
        moved = await _fire(session, [step for step in steps if not step.plan.occurrences], {})
        due = [step for step in steps if step.plan.occurrences]
        if not due:
            return Outcome(moved)
        sent = await self._send(session, due)
        return Outcome({**moved, **sent.moved}, sent.failure)

    async def _send(self, session: Session, steps: Sequence[Step]) -> Outcome:
        # The rows stay locked meanwhile: nobody else sends them, and who edits one waits until it is sent.
        async with session.transaction():
            await session.fetch("set local synchronous_commit = on")
            rows = await session.fetch(
                query("timetable_messages"),
                [step.schedule.id for step in steps],
                [step.schedule.turn for step in steps],
            )
            held = {row["id"]: row for row in rows}
            messages = {
                step.schedule.id: _messages(step, held[step.schedule.id])
                for step in steps
                if step.schedule.id in held
            }
            try:
                posted = await self._post.post([message for some in messages.values() for message in some])
            except PublishFailed as error:
                return Outcome({}, str(error))
            sent = {message.task_id for message in posted.sent}
            refused = {message.task_id: reason for message, reason in posted.refused}
            ids = {key: [message.task_id for message in some] for key, some in messages.items()}
            done = [
                step.failing(next((refused[one] for one in ids[step.schedule.id] if one in refused), None))
                for step in steps
                if all(one in sent or one in refused for one in ids.get(step.schedule.id, ["nobody"]))
            ]
            return Outcome(await _fire(session, done, ids, guard=session.savepoint), posted.failure)


async def _fire(
    session: Session,
    steps: Sequence[Step],
    task_ids: Mapping[int, Sequence[str]],
    guard: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> dict[int, Moved]:
    if not steps:
        return {}
    plans = json.dumps([step.as_json(task_ids.get(step.schedule.id)) for step in steps])
    try:
        async with guard():
            rows = await session.fetch("select * from pgreact.fire($1)", plans, timeout=TIMEOUT)
    except asyncpg.InsufficientPrivilegeError:
        raise
    except asyncpg.PostgresError as error:
        # one bad row must not stop the others
        if len(steps) > 1:
            half = len(steps) // 2
            first = await _fire(session, steps[:half], task_ids, guard)
            return first | await _fire(session, steps[half:], task_ids, guard)
        if steps[0].plan.error:
            raise
        return await _fire(session, [steps[0].failing(said(error))], task_ids, guard)
    return {
        row["id"]: Moved(
            row["fired_at"],
            row["overlapped"],
            row["error"],
            row["jobs"],
            task_ids.get(row["id"], ()),
        )
        for row in rows
    }


def _messages(step: Step, row: asyncpg.Record) -> list[JobMessage]:
    return [
        JobMessage(
            job=None,
            attempt=1,
            task_id=str(uuid.uuid5(_OCCURRENCES, f"{step.schedule.id}/{occurrence.isoformat()}")),
            task=row["task"],
            args=json.loads(row["args"]),
            kwargs=json.loads(row["kwargs"]),
            options=_options(step, row, occurrence),
        )
        for occurrence in step.plan.occurrences
    ]


def _options(step: Step, row: asyncpg.Record, occurrence: datetime.datetime) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(row["options"])
    options["headers"] = {
        **(options.get("headers") or {}),
        "periodic_task_name": step.schedule.name,
        "pgreact_occurrence": occurrence.isoformat(),
    }
    if row["expires"] is not None:
        options["expires"] = (occurrence + row["expires"] - step.found_at).total_seconds()
    return options
