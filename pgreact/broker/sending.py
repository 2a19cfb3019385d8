"""Which code sends a task: pgreact and Celery themselves send messages, and never enqueue jobs instead.

The hook of ``pgreact.setup(app, transactional=…)`` asks here before it makes a job of a call.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

Sender = Literal["direct", "task"]

_sender: ContextVar[Sender | None] = ContextVar("pgreact_sender", default=None)


def sender() -> Sender | None:
    """Return ``direct`` within :func:`directly`, ``task`` in the body of a task, else ``None``."""
    return _sender.get()


@contextlib.contextmanager
def sending_as(new: Sender) -> Iterator[None]:
    """Run code as a sender: ``direct``, or ``task`` for the body of a task."""
    token = _sender.set(new)
    try:
        yield
    finally:
        _sender.reset(token)


def directly() -> contextlib.AbstractContextManager[None]:
    """Send all calls of tasks within as messages."""
    return sending_as("direct")
