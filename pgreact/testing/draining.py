"""Run what is due of queue and timetable, in this process."""

import contextlib
import dataclasses
import datetime
import json
import os
from typing import TYPE_CHECKING, Any, Literal

from celery.exceptions import Ignore, Retry

from pgreact.broker.job_publisher import refusal_reason
from pgreact.broker.message_headers import JOB_TASK
from pgreact.broker.task_routing import routed
from pgreact.errors import PgreactError
from pgreact.queue.claim import message_of
from pgreact.testing import timetable
from pgreact.testing.attempts import Effects, InlineCalls, InlineJobs
from pgreact.testing.broker import Delivery, MemoryBroker
from pgreact.testing.clock import frozen
from pgreact.testing.connection import TestConnection, moment, run, value
from pgreact.testing.settings import app_or_default, connection_or_default
from pgreact.worker.database import databases
from pgreact.worker.guard import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

RUNAWAY = 1000  # tasks, after which a drain without a limit gives up
_KEEPS_ATTEMPT = {"job_snooze": "replaced", "job_postpone": "retried"}

Outcome = Literal["done", "retried", "failed", "dead", "replaced", "dropped"]


class JobDied(PgreactError):
    """A job ended without success, and not by an exception of its task."""


@dataclasses.dataclass(frozen=True)
class DrainedTask:
    """A task that :func:`drain` ran.

    Attributes:
        job: The id of its job; ``None``: a task sent it, by ``delay()``, a link or a canvas, or a schedule of
            delivery ``direct`` did.
        task: The task's name.
        task_id: Celery's id.
        outcome: ``done``; ``retried``: the task asked for a retry of Celery's; ``failed``: another attempt of
            the job follows; ``dead``: none does; ``replaced``: by another task, which goes on; ``dropped``:
            it was not started, since the job was cancelled, or has expired.
        result: What the task returned.
        error: The exception that left the task, or the text of why it did not run.
    """

    job: int | None
    task: str
    task_id: str
    outcome: Outcome
    result: Any = None
    error: BaseException | str | None = None


def drain(
    *,
    connection: object | None = None,
    app: "Celery | str | None" = None,
    until: datetime.datetime | datetime.timedelta | None = None,
    limit: int | None = None,
    schedules: bool = True,
    raise_errors: bool = True,
    atomic: bool = True,
) -> list[DrainedTask]:
    """Run all that is due, in this process, until nothing is: jobs, and what their tasks enqueue and send.

    It does what the daemon and a worker do, by the same SQL and code: due schedules fire, a claim takes the
    next job within the limits of lanes and keys, the message goes through the serializer, and Celery runs the
    task with a request like a worker's. Retries, attempts and their pauses, dead jobs, links and canvases are
    as in life; what waits for a later time stays queued. Messages that a task sends are run, too, and reach
    no broker. See ``docs/how-to/testing.md`` for what it leaves out.

    Args:
        connection: The test's; see :func:`use`.
        app: The Celery application, or its name; by default the one that called :func:`pgreact.setup`, or the
            configured one.
        until: In :func:`freeze`: move the clock on to each time at which something is due, up to this time,
            or by this much; then leave it there.
        limit: Tasks to run at most; ``None``: all, and more than 1000 are an error.
        schedules: Fire due schedules.
        raise_errors: Raise the error of the first task that fails for good, once its job is dead.
        atomic: Undo what a task wrote when it fails, as ``transaction.atomic()`` around its body would. With
            false it stays, as in autocommit mode, unless its SQL failed.

    Returns:
        The tasks that ran, in order.

    Raises:
        Exception: The error of a task, see ``raise_errors``.
        JobDied: A job died without one: no such task, or arguments that do not fit.
        PgreactError: Another transaction holds the queue, a schedule failed, more than 1000 tasks were due,
            or ``until`` is given while the clock runs.
    """
    bound = connection_or_default(connection)
    clock = frozen()
    if until is not None and clock is None:
        raise PgreactError('drain(until=…) moves the clock: call it in "with pgreact.testing.freeze():"')
    end = moment(bound) + until if isinstance(until, datetime.timedelta) else until
    with _Drain(bound, app_or_default(app), atomic=atomic).working() as work:
        while limit is None or len(work.done) < limit:
            before = len(work.done)
            if schedules:
                work.fire(raise_errors=raise_errors)
            if work.run_next():
                if raise_errors and len(work.done) > before:
                    _raise(work.done[-1])
                if limit is None and len(work.done) >= RUNAWAY:
                    raise PgreactError(
                        f"{RUNAWAY} tasks ran and more are due: does {work.done[-1].task} enqueue itself? "
                        "Give limit= to run as many as you mean"
                    )
                continue
            due = work.next_due(schedules=schedules) if end is not None else None
            if clock is None or end is None:
                break
            if due is None or due > end:
                clock.move_to(max(end, clock.now))
                break
            clock.move_to(due)
        return work.done


def _raise(ran: DrainedTask) -> None:
    if ran.outcome != "dead":
        return
    if isinstance(ran.error, BaseException):
        raise ran.error
    raise JobDied(f"{'a message' if ran.job is None else f'job {ran.job}'} of task {ran.task}: {ran.error}")


class _Drain:
    """The daemon and the worker of one drain."""

    def __init__(self, connection: TestConnection, app: "Celery", *, atomic: bool) -> None:
        self.done: list[DrainedTask] = []
        self._connection = connection
        self._app = app
        self._database = databases[app]
        self._effects = Effects(connection, atomic=atomic)
        self._jobs = InlineJobs(connection, self._effects)
        self._broker = MemoryBroker(app, lambda: moment(connection))
        self._routed: set[str] = set()
        self._id = ""
        self._next: float | None = None  # seconds until the next claim, as the last one says

    @contextlib.contextmanager
    def working(self) -> "Iterator[_Drain]":
        """Let the application's jobs run on the test's connection in a block."""
        self._app.loader.import_default_modules()
        for task in list(self._app.tasks.values()):
            if task.name != JOB_TASK:
                guard(task, self._database)
        self._id = value(self._connection, "select pgreact.database_id()")
        database = self._database
        before = database.inline, database.outside, database.main_pid
        database.inline, database.outside = self._jobs, InlineCalls(self._connection)
        database.main_pid = os.getpid()
        try:
            with self._broker.capturing():
                yield self
        finally:
            database.inline, database.outside, database.main_pid = before

    def fire(self, *, raise_errors: bool) -> None:
        """Fire due schedules."""
        messages, errors = timetable.fire_due(self._connection)
        for message in messages:
            self._broker.send(message)
        if errors and raise_errors:
            raise PgreactError("; ".join(errors))

    def run_next(self) -> bool:
        """Run the next message, or claim the next job; return whether there was one."""
        delivery = self._broker.take(moment(self._connection))
        if delivery is not None:
            self._run(delivery)
            return True
        return self._claim()

    def next_due(self, *, schedules: bool) -> datetime.datetime | None:
        """Return when something is due, once nothing is."""
        now = moment(self._connection)
        found = [self._broker.next_due(), timetable.next_due(self._connection) if schedules else None]
        if self._next is not None:
            found.append(timetable.after(now, self._next))
        return min((due for due in found if due is not None), default=None)

    def _claim(self) -> bool:
        """Claim one job: the next must see what it leaves behind, for its lane and key."""
        answer = json.loads(value(self._connection, "select pgreact.claim(1)::text"))
        if "full_lanes" not in answer:
            raise PgreactError(
                "another transaction holds the queue of this database: a daemon, or another test; give the "
                "test a database of its own"
            )
        self._next = answer["next_s"]
        for job in answer["jobs"]:
            self._publish(job)
        tasks = set(answer.get("unrouted") or []) - self._routed
        if tasks:
            self._routed |= tasks
            routes = json.dumps([routed(self._app, task) for task in sorted(tasks)])
            run(self._connection, "select pgreact.route_tasks(%(routes)s::jsonb)", routes=routes)
        return bool(answer["jobs"] or answer["claimed"] or tasks or answer["more"])

    def _publish(self, job: dict[str, Any]) -> None:
        message = message_of(job, self._id)
        try:
            self._broker.send(message)
        except Exception as error:  # noqa: BLE001 - arguments and options are whatever a user wrote
            reason = refusal_reason(error)
            run(
                self._connection,
                "select pgreact.settle(%(job)s, %(claim)s::uuid, 'invalid', %(reason)s)",
                job=message.job, claim=message.claims[0], reason=reason,
            )  # fmt: skip
            self.done.append(DrainedTask(message.job, message.task, message.task_id, "dead", error=reason))

    def _run(self, delivery: Delivery) -> None:
        task = self._app.tasks.get(delivery.task)
        self._jobs.begin()
        of_a_job = delivery.job is not None or task is None
        try:
            with contextlib.nullcontext() if of_a_job else self._effects.of(task):
                found = self._broker.run(delivery)
        except SystemExit:
            found = None  # a worker's child would end, and the job be lost
        if self._jobs.fault is not None:
            raise self._jobs.fault
        outcome, text = self._outcome(delivery, found)
        self.done.append(
            DrainedTask(
                delivery.job, delivery.task, delivery.id, outcome,
                result=found if outcome == "done" else None,
                error=None if outcome in {"done", "replaced"} else self._effects.error or text,
            )
        )  # fmt: skip

    def _outcome(self, delivery: Delivery, found: Any) -> tuple[Outcome, str | None]:
        """Return what became of a message, and the text of its error."""
        if delivery.job is None:
            return self._outcome_of_message(delivery, found)
        if not self._jobs.settlements:
            return "dropped", None
        settlement = self._jobs.settlements[0]
        error: Any = settlement.values.get("error")
        if settlement.query in _KEEPS_ATTEMPT:
            return ("retried", error) if settlement.query == "job_postpone" else ("replaced", error)
        if settlement.outcome == "done":
            return "done", None
        queued = value(
            self._connection,
            "select exists (select from pgreact.queue where id = %(job)s)",
            job=delivery.job,
        )
        return ("failed" if queued else "dead"), error

    def _outcome_of_message(self, delivery: Delivery, found: Any) -> tuple[Outcome, str | None]:
        # of a task that failed before its body, Celery alone knows the error
        error = self._effects.error or getattr(found, "exception", None)
        if delivery.task not in self._app.tasks:
            return "dead", f'no task "{delivery.task}": import the module that defines it'
        if isinstance(error, Retry):
            return "retried", None
        if error is None or isinstance(error, Ignore):
            return "done", None
        return "dead", str(error)
