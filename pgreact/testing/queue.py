"""The jobs of a queue, as a test sees them."""

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from pgreact.broker.json_reader import read
from pgreact.errors import PgreactError
from pgreact.queue.job import TaskLike
from pgreact.testing.connection import TestConnection, run
from pgreact.testing.settings import app_or_default, connection_or_default


@dataclasses.dataclass(frozen=True)
class EnqueuedJob:
    """A job that has not ended.

    Attributes:
        id: The job's id.
        task: The task's name.
        args: The positional arguments, as the task will get them.
        kwargs: The keyword arguments, likewise.
        lane: The lane; by default that of the Celery queue which the application routes the task to, or
            ``None`` if no application is known.
        key: Jobs of one key run one at a time.
        unique_key: At most one job has it.
        priority: Higher comes first within the lane.
        run_at: Earliest start.
        expires: When it becomes worthless.
        options: Of the message.
        task_id: Celery's.
        attempt: Attempts so far.
        state: ``ready``, ``delayed``, ``blocked`` (behind a job of its key) or ``in progress``.
    """

    id: int
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    lane: str | None
    key: str | None
    unique_key: str | None
    priority: int
    run_at: datetime.datetime
    expires: datetime.datetime | None
    options: Mapping[str, Any]
    task_id: str
    attempt: int
    state: str


def enqueued(
    task: str | TaskLike | None = None,
    *,
    lane: str | None = None,
    key: str | None = None,
    connection: object | None = None,
) -> list[EnqueuedJob]:
    """Return the jobs that have not ended, in the order in which they were enqueued.

    Args:
        task: Only jobs of this task: the task, or its name.
        lane: Only jobs of this lane.
        key: Only jobs of this key.
        connection: The test's; see :func:`use`.

    Raises:
        PgreactError: No connection is known.
    """
    name = None if task is None else name_of(task)
    return [
        job
        for job in all_jobs(connection_or_default(connection))
        if name in {None, job.task} and lane in {None, job.lane} and key in {None, job.key}
    ]


def all_jobs(connection: TestConnection) -> list[EnqueuedJob]:
    """Return all jobs that have not ended, by id."""
    jobs = [_job(row) for row in run(connection, "testing_jobs")]
    if all(job.lane is not None for job in jobs):
        return jobs
    from pgreact.broker.task_routing import routed  # loads Celery

    # the leader would look them up
    lanes: dict[str, str] = {}
    with contextlib.suppress(PgreactError):
        app = app_or_default(None)
        lanes = {job.task: routed(app, job.task)["queue"] for job in jobs}
    return [dataclasses.replace(job, lane=job.lane or lanes.get(job.task)) for job in jobs]


def name_of(task: str | TaskLike) -> str:
    """Return the name of a task.

    Raises:
        TypeError: It is neither a task nor a name.
    """
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"task is of type {type(task).__name__}, neither a Celery task nor its name")
    return name


def _job(row: Mapping[str, Any]) -> EnqueuedJob:
    texts = {name: read(row[name], marked=name != "options") for name in ("args", "kwargs", "options")}
    return EnqueuedJob(**{**row, **texts})
