"""Jobs of an application that runs its tasks at once (``task_always_eager``), as ``delay()`` does then."""

from collections.abc import Mapping
from typing import Any

from pgreact.queue.job import Enqueued, Job


def wanted(job: Job) -> bool:
    """Tell whether a job is to run at once; one that is known by its name alone is not, as in Celery.

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


def run(job: Job) -> Enqueued:
    """Run a job's task in this process, by the task's own ``apply_async``."""
    options = dict(job.options or {})
    if job.task_id is not None:
        options["task_id"] = str(job.task_id)
    task: Any = job.task
    if isinstance(task, Mapping):
        result = task.apply_async(**options)  # type: ignore[attr-defined]
    else:
        result = task.apply_async(list(job.args), dict(job.kwargs or {}), **options)
    return Enqueued(0, str(result.id))
