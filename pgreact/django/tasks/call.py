"""One call of a task of ``django.tasks`` as the job's arguments carry it."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Self

from django.utils.module_loading import import_string

from pgreact.django.tasks.interface import InvalidTask, Task
from pgreact.errors import PgreactError


class NoTask(PgreactError):
    """A job names something that is no task of ``django.tasks``."""


@dataclasses.dataclass(frozen=True)
class TaskCall:
    """A call of a task.

    Attributes:
        path: The module and the name of the task.
        args: Positional arguments, of JSON types.
        kwargs: Keyword arguments, of JSON types.
        backend: The alias in ``TASKS``.
        queue_name: That of the call.
        priority: That of the call.
        run_after: That of the call.
    """

    path: str
    args: list[Any]
    kwargs: dict[str, Any]
    backend: str
    queue_name: str
    priority: int
    run_after: datetime.datetime | None = None

    @classmethod
    def of(cls, task: "Task[..., Any]", args: list[Any], kwargs: dict[str, Any]) -> Self:
        """Return the call of a task with arguments of JSON types."""
        return cls(
            task.module_path, args, kwargs, task.backend, task.queue_name, task.priority, task.run_after
        )

    @classmethod
    def read(cls, path: str, args: list[Any], kwargs: dict[str, Any], variant: Mapping[str, Any]) -> Self:
        """Return the call that a job's arguments describe.

        Raises:
            TypeError: They describe none.
        """
        run_after = variant.get("run_after")
        at = None if run_after is None else datetime.datetime.fromisoformat(run_after)
        return cls(path, args, kwargs, **{**variant, "run_after": at})

    @property
    def job_args(self) -> list[Any]:
        """The positional arguments of the job: what a reader of the queue wants to see."""
        return [self.path, self.args, self.kwargs]

    @property
    def job_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the job."""
        return {
            "backend": self.backend,
            "queue_name": self.queue_name,
            "priority": self.priority,
            **({} if self.run_after is None else {"run_after": self.run_after.isoformat()}),
        }

    def task(self) -> "Task[..., Any]":
        """Import the task; only what is declared as one runs, since an enqueuer may name any path.

        Raises:
            NoTask: The path leads to no task.
        """
        try:
            found = import_string(self.path)
        except ImportError as error:
            raise NoTask(f"no task {self.path}: {error}") from error
        if not isinstance(found, Task):
            raise NoTask(f"{self.path} is of type {type(found).__name__}, not a task: decorate it with @task")
        declared: Task[..., Any] = found
        try:
            return declared.using(
                backend=self.backend,
                queue_name=self.queue_name,
                priority=self.priority,
                run_after=self.run_after,
            )
        except InvalidTask:  # QUEUES has changed since it was enqueued
            return declared
