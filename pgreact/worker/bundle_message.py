"""The message of a bundle as a worker receives it: what to do with it, before a request is made of it."""

import copy
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker.request import Request

from pgreact.broker.message_headers import JOB, JOBS
from pgreact.broker.task_routing import bundleable
from pgreact.postgres.errors import describe
from pgreact.worker.bundle import BUNDLE_TASK, Unreadable, read_bundle
from pgreact.worker.bundle_task import APART

logger = get_logger(__name__)


def accept(consumer: Any, message: Any, body: Any, name: str, rest: tuple[Any, ...]) -> Any:
    """Pass a bundle to the strategy of the task that runs bundles.

    Args:
        consumer: The worker's.
        message: A copy of the message, whose headers may be changed.
        body: Of Celery's first protocol; ``None``: it is not decoded yet.
        name: The task of the jobs.
        rest: Further arguments of the strategy.

    Raises:
        InvalidTaskError: No bundle can be read from it.
    """
    app = consumer.app
    task = app.tasks.get(name)
    inner = consumer.strategies.get(BUNDLE_TASK)
    if JOB in message.headers:
        raise InvalidTaskError(f"a message with both headers {JOB} and {JOBS}")
    if task is None or name == BUNDLE_TASK or inner is None or name not in consumer.strategies:
        _reject_unknown(consumer, message, body, name)
        return None
    own = {"shadow": (body or message.headers).get("shadow") or name, "task": BUNDLE_TASK}
    flags = {APART: reason} if (reason := apart(consumer, task)) else {}
    if body is None:
        message.headers = {**message.headers, **own, **flags}
    else:
        message.headers = {**message.headers, **flags}
        body = {**body, **own}
    return inner(message, body, *rest)


def apart(consumer: Any, task: Any) -> str | None:
    """Return why each job of a task needs a message of its own in this worker; ``None``: it does not."""
    controller = consumer.controller
    if controller.time_limit is not None or controller.soft_time_limit is not None:
        return "the worker has a time limit"
    base = task.Request.__mro__[1] if isinstance(task.Request, type) else Request
    if not bundleable(consumer.app, task) or base is not Request:
        return "the task has a time limit, a rate limit, acks_late, or a Request or Strategy of its own"
    return None


def _reject_unknown(consumer: Any, message: Any, body: Any, name: str) -> None:
    """Reject a bundle of a task that this worker does not know, and tell so for each of its jobs."""
    try:
        args = body["args"] if body is not None else message.payload[0]
        jobs = read_bundle(args, message.headers[JOBS])
    except (Unreadable, KeyError, ValueError) as error:
        raise InvalidTaskError(describe(error)) from error
    except Exception as error:
        raise InvalidTaskError(f"its body cannot be read: {describe(error)}") from error
    shared = {key: value for key, value in message.headers.items() if key != JOBS}
    for job in jobs:
        one = copy.copy(message)
        one.headers = {**shared, **job.headers(), "id": job.task_id, "root_id": job.task_id, "task": name}
        one.body = job.args
        one.reject_log_error = _ignore  # the message is rejected once, below
        consumer.on_unknown_task(one.body, one, KeyError(name))
    message.reject_log_error(logger, consumer.connection_errors)


def _ignore(*_: object) -> None:
    pass
