"""The Celery strategy for messages of jobs. They name a task that only :func:`pgreact.setup` registers."""

import copy
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import InvalidTaskError

from pgreact.broker.message_headers import JOB_TASK, JOBS, TASK


def register(app: Celery, on_unreadable: Callable[[Any, Any, Exception], None]) -> None:
    """Register the task that messages of jobs name, so that an application's workers accept them.

    Args:
        app: The application.
        on_unreadable: Called with the worker's consumer, a message that cannot be decoded, and the error.
    """

    def strategy(_task: object, _app: Celery, consumer: Any, **_: object) -> Callable[..., Any]:
        _watch_unreadable(consumer, on_unreadable)

        def accept(message: Any, body: Any, *rest: Any, **more: Any) -> Any:
            """Pass a message to the strategy of the task that it calls, under the name of that task."""
            name = message.headers.get(TASK)
            if not isinstance(name, str):
                raise InvalidTaskError(f"a message of {JOB_TASK} without the header {TASK}")
            if JOBS in message.headers:
                from pgreact.worker import bundle_message  # loads Celery's worker

                return bundle_message.accept(consumer, copy.copy(message), body, name, rest)
            # a copy: the message itself may go back to the broker
            message = copy.copy(message)
            if "task" in message.headers:
                message.headers = {**message.headers, "task": name}
            else:
                body = {**body, "task": name}
            inner = consumer.strategies.get(name)
            if inner is None or name == JOB_TASK:
                return consumer.on_unknown_task(body, message, KeyError(name))
            return inner(message, body, *rest, **more)

        return accept

    # Setting the strategy later would make the task at once, and so read the application's configuration.
    @app.task(name=JOB_TASK, shared=False, ignore_result=True, Strategy=staticmethod(strategy))
    def job() -> None:
        raise RuntimeError(f"{JOB_TASK} is the name of messages; call the task itself")


def _watch_unreadable(consumer: Any, on_unreadable: Callable[[Any, Any, Exception], None]) -> None:
    inner = consumer.on_decode_error
    if getattr(inner, "_pgreact", False):
        return

    def on_decode_error(message: Any, error: Exception) -> None:
        on_unreadable(consumer, message, error)
        inner(message, error)

    on_decode_error._pgreact = True  # type: ignore[attr-defined]
    consumer.on_decode_error = on_decode_error
