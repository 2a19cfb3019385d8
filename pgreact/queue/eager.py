"""Jobs of an application with ``task_always_eager``: the task runs in this process, as with ``delay()``."""

from collections.abc import Mapping
from typing import Any

from pgreact.queue.job import Enqueued, Job


def is_eager(job: Job) -> bool:
    """Return whether a job runs at once. A job that only names its task never does, as in Celery.

    Raises:
        ValueError: It would, and the application's setting ``pgreact_eager`` forbids it.
    """
    app = getattr(job.task, "app", None)
    if app is None or not app.conf.task_always_eager:
        return False
    if not app.conf.get("pgreact_eager", True):
        raise ValueError(
            "task_always_eager is set, with which a job would run at once instead of being enqueued, and "
            "pgreact_eager = False forbids it: unset one of them"
        )
    return True


def apply(job: Job) -> Enqueued:
    """Run a job's task in this process, by the task's own ``apply_async``."""
    options = dict(job.parameters.get("options") or {})
    if (task_id := job.parameters.get("task_id")) is not None:
        options["task_id"] = str(task_id)
    task: Any = job.task
    if isinstance(task, Mapping):
        result = task.apply_async(**options)  # type: ignore[attr-defined]
    else:
        result = task.apply_async(list(job.args), dict(job.kwargs or {}), **options)
    return Enqueued(0, str(result.id))
