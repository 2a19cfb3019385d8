"""A schedule as it was found, what is to become of it, and what became."""

import asyncio
import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pgreact.broker.job_publisher import JobMessage
from pgreact.postgres.session import Session
from pgreact.timetable.planner import Plan, Schedule, actual

if TYPE_CHECKING:
    import asyncpg


@dataclasses.dataclass(slots=True)
class Step:
    """A schedule as it was found, and what is to become of it.

    Attributes:
        schedule: As it was found.
        plan: What is to become of it.
        messages: Of direct delivery: one for each occurrence.
        text: All that ``pgreact.fire`` is to know of it, in JSON.
    """

    schedule: Schedule
    plan: Plan
    messages: Sequence[JobMessage]
    text: str

    @classmethod
    def of(cls, schedule: Schedule, plan: Plan, messages: Sequence[JobMessage] = ()) -> "Step":
        """Return the step that does what was planned."""
        occurrences = [moment.isoformat() for moment in plan.occurrences]
        nominal, run, last = plan.next_nominal_at, plan.next_run_at, plan.last_nominal_at
        next_nominal = _text(nominal)
        # no moment is written twice: that is a good part of what it costs to fire thousands at once
        fields = {
            "id": schedule.id,
            "turn": schedule.turn,
            "state": plan.state,
            "occurrences": occurrences,
            "task_ids": [message.task_id for message in messages] or None,
            "next_nominal_at": next_nominal,
            "next_run_at": next_nominal if run is nominal else _text(run),
            "last_nominal_at": occurrences[-1]
            if occurrences and plan.occurrences[-1] is last
            else _text(last),
            "missed": plan.missed,
            "error": plan.error,
        }
        if plan.replanned_at is not None:
            fields["replanned_at"] = plan.replanned_at.isoformat()
        return cls(schedule, plan, messages, json.dumps(fields))

    def failing(self, error: str) -> "Step":
        """Return the step that stops the schedule for an error."""
        plan = dataclasses.replace(
            self.plan, occurrences=(), state="failed", next_nominal_at=None, next_run_at=None, error=error
        )
        return Step.of(self.schedule, plan)

    def first(self, count: int) -> "Step":
        """Return the step that fires only so many of its occurrences, and leaves the others due."""
        occurrences, due = self.plan.occurrences[:count], self.plan.occurrences[count]
        plan = dataclasses.replace(
            self.plan,
            occurrences=occurrences,
            state="planned",
            next_nominal_at=due,
            next_run_at=actual(self.schedule.name, due, self.schedule.jitter),
            last_nominal_at=occurrences[-1],
        )
        return Step.of(self.schedule, plan, self.messages[:count])


@dataclasses.dataclass(slots=True)
class Moved:
    """What became of a schedule.

    Attributes:
        step: What was done.
        fired_at: When, by the database's clock.
        error: Why it stopped.
        jobs: One for each occurrence that was fired; ``None``: a message was sent. Without overlap, none are
            fired while the job of the one before is not done.
    """

    step: Step
    fired_at: datetime.datetime
    error: str | None
    jobs: Sequence[int | None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a round.

    Attributes:
        moved: By their schedules' ids; another session moved the others, or has locked them.
        failure: The rest could not be sent, since the broker is away.
        pause: The rest could not be fired, since the database cannot do it now: seconds until the next try.
    """

    moved: Mapping[int, Moved]
    failure: str | None = None
    pause: float | None = None


Work = Callable[[], bool]
"""Does a piece of work that takes about a millisecond, and returns whether there may be more."""


async def work_on(work: Work) -> None:
    """Do all the work there is, and let others have the event loop after each piece."""
    while work():  # noqa: ASYNC110 - it does not wait
        await asyncio.sleep(0)


class Delivery(Protocol):
    """How occurrences are fired.

    Attributes:
        name: As in the column ``delivery``.
        look: How many schedules are read at a time.
        batch: How many occurrences are fired at a time, at most, if not all are one schedule's.
    """

    name: str
    look: int
    batch: int

    def messages(self, row: "asyncpg.Record", schedule: Schedule, plan: Plan) -> Sequence[JobMessage]:
        """Return what is to be sent from here for a row that ``timetable_due`` read."""
        ...

    async def fire(
        self, session: Session, steps: Sequence[Step], meanwhile: Work, moved: dict[int, Moved]
    ) -> str | None:
        """Fire what is due and move the schedules on, each in one and the same transaction.

        Args:
            session: Nobody else uses it now.
            steps: What to do.
            meanwhile: To be done while the server is at work.
            moved: Takes what became of them, by their schedules' ids, as soon as it is committed.

        Returns:
            Why the rest could not be sent, if the broker is away.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused it, or its answer cannot be read.
        """
        ...


def _text(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
