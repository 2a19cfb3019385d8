"""A job as the application describes it, and its ids once it is enqueued."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, TypedDict, Unpack
from uuid import UUID

from pgreact.errors import nearest


class TaskLike(Protocol):
    """The attributes of a Celery task that pgreact reads."""

    @property
    def name(self) -> str: ...

    @property
    def app(self) -> Any: ...


class Enqueued(int):
    """The id of a job, with the id of its Celery task.

    Attributes:
        task_id: Celery's id, the same for every attempt: ``AsyncResult(job.task_id)`` waits for the result.
    """

    task_id: str

    def __new__(cls, job: int, task_id: str) -> Self:
        """Return the ids of a job.

        Args:
            job: The job's id; 0 if the task ran at once (``task_always_eager``).
            task_id: Celery's id.
        """
        self = super().__new__(cls, job)
        self.task_id = task_id
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (int(self), self.task_id)


class JobParameters(TypedDict, total=False):
    """The keyword parameters of :func:`pgreact.enqueue` and :class:`pgreact.Job`; all may be left out.

    Attributes:
        lane: The lane whose limits hold for the job; by default that of the Celery queue the task is routed
            to.
        priority: Higher comes first within the lane; by default 0.
        run_at: Earliest start: a ``datetime`` with time zone, or a ``timedelta`` or seconds from now, counted
            by the database's clock.
        key: Jobs of one key run one at a time, in the order in which they were enqueued.
        unique_key: While a job of this key is queued, another is not added.
        unique_while: ``queued`` (default), or ``in_progress``: nor is it added while one is in progress.
        max_attempts: How many attempts may fail; by default 1. Celery's own retries belong to one attempt, so
            a task that has them needs no more.
        backoff: Pause after the first failed attempt, ``timedelta`` or seconds; by default 5 s. It doubles
            with each further one, up to an hour.
        expires: A job that no worker has started by then does not run, and is dead; in the forms of
            ``run_at``.
        options: Options of ``apply_async`` for the message: ``queue``, ``priority``, ``headers``,
            ``time_limit``, ``link``, …; with a signature, in addition to its own. Those of a canvas stay in
            the canvas: these are for the message that starts it.
        task_id: Celery's id of the task, a UUID, the same for every attempt; by default that of the signature
            if it has one, else a new one.
        max_lost: How often the job is repeated after its worker died; by default as its lane says. With 0 it
            runs at most once.
    """

    lane: str | None
    priority: int
    run_at: datetime.datetime | datetime.timedelta | float | None
    key: str | None
    unique_key: str | None
    unique_while: Literal["queued", "in_progress"]
    max_attempts: int
    backoff: datetime.timedelta | float
    expires: datetime.datetime | datetime.timedelta | float | None
    options: Mapping[str, Any] | None
    task_id: str | UUID | None
    max_lost: int | None


@dataclasses.dataclass(frozen=True, init=False)
class Job:
    """One job for :func:`pgreact.enqueue_many`."""

    task: str | TaskLike | Mapping[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    parameters: JobParameters

    def __init__(
        self,
        task: str | TaskLike | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **parameters: Unpack[JobParameters],
    ) -> None:
        """Describe a job; :func:`pgreact.enqueue` takes the same arguments.

        Args:
            task: The task's name, the task itself, or a signature.
            args: The task's positional arguments.
            kwargs: The task's keyword arguments.
            **parameters: See :class:`JobParameters`.

        Raises:
            TypeError: A keyword is none of these.
        """
        for name in parameters:
            if name not in JobParameters.__annotations__:
                known = ["task", "args", "kwargs", *JobParameters.__annotations__]
                raise TypeError(f'a job has no "{name}"{nearest(name, known)}')
        for name, value in (("task", task), ("args", args), ("kwargs", kwargs), ("parameters", parameters)):
            object.__setattr__(self, name, value)
