"""A job as its author describes it."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self
from uuid import UUID


class TaskLike(Protocol):
    """A Celery task, by what matters here."""

    @property
    def name(self) -> str:
        """The name under which workers know it."""
        ...

    @property
    def app(self) -> Any:
        """The application it belongs to."""
        ...


class Enqueued(int):
    """The id of a job, and that of its task.

    Attributes:
        task_id: Celery's id, the same for every attempt: ``AsyncResult(job.task_id)`` waits for the result.
    """

    task_id: str

    def __new__(cls, job: int, task_id: str) -> Self:
        """Make one.

        Args:
            job: The job's id; 0: it ran at once, since Celery is told to (``task_always_eager``).
            task_id: Celery's.
        """
        self = super().__new__(cls, job)
        self.task_id = task_id
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        """Let it be copied and pickled."""
        return type(self), (int(self), self.task_id)


@dataclasses.dataclass(frozen=True)
class Job:
    """One job for :func:`pgreact.enqueue_many`; its fields are the arguments of :func:`pgreact.enqueue`."""

    task: str | TaskLike | Mapping[str, Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    _: dataclasses.KW_ONLY
    lane: str | None = None
    priority: int = 0
    run_at: datetime.datetime | datetime.timedelta | float | None = None
    key: str | None = None
    unique_key: str | None = None
    unique_while: Literal["queued", "in_progress"] = "queued"
    max_attempts: int = 1
    backoff: datetime.timedelta | float = 5
    expires: datetime.datetime | datetime.timedelta | float | None = None
    options: Mapping[str, Any] | None = None
    task_id: str | UUID | None = None
    max_lost: int | None = None
