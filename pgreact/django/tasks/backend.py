"""The backend: a task becomes a job of the current transaction; pgreact's tables have its result."""

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import ProgrammingError
from django.utils import timezone

from pgreact.django.jobs import enqueue
from pgreact.django.tasks.call import TaskCall
from pgreact.django.tasks.checks import check
from pgreact.django.tasks.interface import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
)
from pgreact.django.tasks.names import RUNNER
from pgreact.django.tasks.result import find_result, result_id
from pgreact.errors import nearest

if TYPE_CHECKING:
    from pgreact.queue.job import JobParameters

P = ParamSpec("P")
R = TypeVar("R")

RETENTION = datetime.timedelta(days=1)  # of results
_UNDEFINED_OBJECT = "42704"  # PostgreSQL's code of an unknown lane
_PARAMETERS = ("max_attempts", "backoff", "max_lost", "expires", "options")


class Backend(BaseTaskBackend):
    """Runs the tasks of ``django.tasks`` as jobs, on the Celery workers.

    A task is enqueued in the current transaction of the database of ``PGREACT["DATABASE"]``. Its
    ``queue_name`` is the lane. ``OPTIONS`` takes these parameters of :func:`pgreact.enqueue` for all tasks of
    the backend: ``max_attempts``, ``backoff``, ``max_lost``, ``expires``, ``options``; and ``retention``: how
    long results are kept, a ``timedelta`` or seconds, by default a day; ``None``: results are not kept.
    """

    supports_defer = True
    supports_async_task = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        """Read the entry of ``TASKS``.

        Args:
            alias: Its key.
            params: Its value.

        Raises:
            ImproperlyConfigured: ``OPTIONS`` has an unknown key, or a wrong retention.
        """
        super().__init__(alias, dict(params))
        options = dict(self.options)
        self.retention = _retention(alias, options.pop("retention", RETENTION))
        self.supports_get_result = self.retention is not None
        for name in options:
            if name not in _PARAMETERS:
                hint = nearest(str(name), [*_PARAMETERS, "retention"])
                raise ImproperlyConfigured(f'TASKS["{alias}"]: OPTIONS: no "{name}"{hint}')
        self._parameters = cast("JobParameters", options)

    def enqueue(
        self, task: "Task[P, R]", args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "TaskResult[P, R]":
        """Enqueue a task in the current transaction.

        Args:
            task: The task.
            args: Its positional arguments, of JSON types.
            kwargs: Its keyword arguments, of JSON types.

        Returns:
            Its result, which is ready. Its ``id`` has the job's, which commands and pages of pgreact show.

        Raises:
            InvalidTask: The task does not fit, or its queue is no lane; then the transaction has failed.
            TypeError: An argument is not of a JSON type.
        """
        self.validate_task(task)
        call = TaskCall.of(
            task,
            cast("list[Any]", normalize_json(list(args))),
            cast("dict[str, Any]", normalize_json(dict(kwargs))),
        )
        run_at = call.run_after
        if run_at is not None and timezone.is_naive(run_at):  # allowed without USE_TZ
            run_at = timezone.make_aware(run_at)
        task_id = str(uuid4())
        parameters: JobParameters = {
            **self._parameters,
            "lane": task.queue_name,
            "priority": task.priority,
            "run_at": run_at,
            "task_id": task_id,
            # the name that Celery's logs and monitors show
            "options": {"shadow": call.path, **(self._parameters.get("options") or {})},
        }
        try:
            job = enqueue(RUNNER, call.job_args, call.job_kwargs, **parameters)
        except ProgrammingError as error:
            cause = error.__cause__
            if _UNDEFINED_OBJECT not in {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)}:
                raise
            raise InvalidTask(
                f'{call.path}: its queue "{task.queue_name}" is no lane: name it in PGREACT["LANES"] and '
                f"migrate, or insert it into pgreact.lane"
            ) from error
        result: TaskResult[P, R] = TaskResult(
            task=task,
            id=result_id(job, task_id),
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=call.args,
            kwargs=call.kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> "TaskResult[..., Any]":
        """Return what has become of a task.

        Args:
            result_id: The id of its result.

        Raises:
            TaskResultDoesNotExist: No task was enqueued under this id in a committed transaction, or the
                current one; or it was cancelled, its result has expired, or the task was removed from the
                code.
            NotImplementedError: Results are not kept.
        """
        if self.retention is None:
            return super().get_result(result_id)
        return find_result(result_id)

    def check(self, **_: Any) -> list[checks.CheckMessage]:
        """Return what is wrong with the settings of this backend."""
        return list(check(self.alias, self.queues))


def _retention(alias: str, given: Any) -> datetime.timedelta | None:
    """Return how long results are kept."""
    found = datetime.timedelta(seconds=given) if isinstance(given, int | float) else given
    if found is None or (isinstance(found, datetime.timedelta) and found > datetime.timedelta(0)):
        return found
    raise ImproperlyConfigured(
        f'TASKS["{alias}"]: OPTIONS: retention is {given!r}: give seconds, a timedelta, or None to keep no '
        "results"
    )
