"""A schedule as it was found, what is to become of it, and what became."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pgreact.database.session import Session
from pgreact.timetable.planner import Plan, Schedule


@dataclasses.dataclass(frozen=True)
class Step:
    """A schedule as it was found, and what is to become of it."""

    schedule: Schedule
    plan: Plan
    found_at: datetime.datetime

    def failing(self, error: str | None) -> "Step":
        """Return the step that stops the schedule for an error; itself where there is none."""
        if error is None:
            return self
        plan = dataclasses.replace(
            self.plan, occurrences=(), state="failed", next_nominal_at=None, next_run_at=None, error=error
        )
        return dataclasses.replace(self, plan=plan)

    def as_json(self, task_ids: Sequence[str] | None) -> dict[str, Any]:
        """Return it as ``pgreact.fire`` takes it.

        Args:
            task_ids: One for each occurrence, where messages were sent.
        """
        return {
            "id": self.schedule.id,
            "turn": self.schedule.turn,
            "state": self.plan.state,
            "occurrences": [moment.isoformat() for moment in self.plan.occurrences],
            "task_ids": task_ids,
            "next_nominal_at": _text(self.plan.next_nominal_at),
            "next_run_at": _text(self.plan.next_run_at),
            "last_nominal_at": _text(self.plan.last_nominal_at),
            "missed": self.plan.missed,
            "error": self.plan.error,
        }


@dataclasses.dataclass(frozen=True)
class Moved:
    """What became of a step."""

    fired_at: datetime.datetime
    overlapped: bool
    error: str | None
    jobs: Sequence[int | None] = ()  # one for each occurrence
    task_ids: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of some steps, by their schedules' ids; the others somebody else moved, or is editing."""

    moved: Mapping[int, Moved]
    failure: str | None = None  # the rest could not be sent, since the broker is away


class Delivery(Protocol):
    """How occurrences are fired.

    Attributes:
        name: As in the column ``delivery``.
        batch: How many schedules are fired at a time.
    """

    name: str
    batch: int

    async def fire(self, session: Session, steps: Sequence[Step]) -> Outcome:
        """Fire what is due and move the schedules on, each in one and the same transaction.

        Raises:
            SessionLost: The session is gone.
            asyncpg.PostgresError: The server refused it.
        """
        ...


def _text(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
