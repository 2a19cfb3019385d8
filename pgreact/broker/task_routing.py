"""The Celery queue that an application sends a task to."""

from typing import Any

from celery import Celery, Task

# Options of messages that a task's class may set. The publisher of a job adds them: ``send_task`` does not
# read them from a task that only its name gives.
TASK_OPTIONS = (
    "queue", "exchange", "routing_key", "priority", "expires", "serializer", "delivery_mode", "compression",
    "time_limit", "soft_time_limit", "ignore_result",
)  # fmt: skip
# A job's option: its class's own ``apply_async`` has made the call already, where it was called.
MADE = "pgreact_made"


def routed(app: Celery, name: str) -> dict[str, Any]:
    """Return a row of ``pgreact.task``: ``name``, ``queue``, and ``expires`` of its class in seconds.

    The task's own queue comes first, then ``task_routes``, then the default queue. A router of the
    application is called without the arguments of a job, since all jobs of a task belong in one lane.

    Args:
        app: The application.
        name: The task's name.
    """
    task = app.tasks.get(name)
    own = {
        option: value
        for option in ("queue", "exchange", "routing_key")
        if (value := getattr(task, option, None)) is not None
    }
    try:
        found = app.amqp.router.route(own, name, (), {}, task)  # type: ignore[arg-type]
        queue = found.get("queue")
        queue = getattr(queue, "name", queue)
    except Exception:  # noqa: BLE001 - a router of the application fails; so will the publish, which reports it
        queue = None
    expires = getattr(task, "expires", None)
    return {
        "name": name,
        "queue": str(queue or app.conf.task_default_queue),
        "expires": expires if isinstance(expires, int | float) and not isinstance(expires, bool) else None,
        "alone": task is not None and not bundleable(app, task),
    }


def bundleable(app: Celery, task: Any) -> bool:
    """Return whether jobs of a task may share a message: nothing of the task concerns one message alone.

    Args:
        app: The application.
        task: The task, as the application registered it.
    """
    limits = (task.time_limit, task.soft_time_limit, app.conf.task_time_limit, app.conf.task_soft_time_limit)
    return (
        all(limit is None for limit in limits)
        and task.rate_limit is None
        and not task.acks_late
        and task.Strategy == Task.Strategy
        and (task.Request == Task.Request or getattr(task.Request, "_pgreact_abandoning", False))
        and not overrides_apply_async(task)
    )


def overrides_apply_async(task: object) -> bool:
    """Return whether the class of a task has an ``apply_async`` of its own."""
    own = getattr(task, "apply_async", None)
    return getattr(own, "__func__", None) is not Task.apply_async
