"""The Celery queue that an application sends a task to."""

from typing import Any

from celery import Celery


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
    }
