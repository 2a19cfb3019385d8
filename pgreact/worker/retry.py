"""The message of a retry that a job's task asks for, as PostgreSQL stores it.

By ``self.retry()`` Celery would send this message now, to wait in a worker and its prefetch count. pgreact
keeps it with the job, which waits in the queue.
"""

from typing import Any

from pgreact.broker.json_writer import join, write, write_options
from pgreact.broker.message_headers import BEFORE, OURS, parse_count
from pgreact.broker.task_routing import MADE, overrides_apply_async

# What the next message gets anew, and what the broker added to the one before.
_DROPPED = {"task_id", "retries", "countdown", "eta", "origin", "headers", "redelivered"}


def retry_message(task: object, signature: Any) -> str:
    """Return the message of a retry as JSON text in ASCII, for ``pgreact.postpone``.

    Args:
        task: The task.
        signature: What Celery would send.

    Raises:
        TypeError: An argument is not JSON.
        ValueError: PostgreSQL cannot store an argument, or a worker could not read it.
    """
    headers = signature.options.get("headers") or {}
    options = {
        name: value for name, value in signature.options.items() if name not in _DROPPED and value is not None
    }
    own = {name: value for name, value in headers.items() if name not in OURS}
    if own:
        options["headers"] = own
    if overrides_apply_async(task):
        options[MADE] = True  # it has added its headers to the message before
    if (expires := options.get("expires")) is not None and hasattr(expires, "isoformat"):
        options["expires"] = expires.isoformat()
    texts = {
        "task": write(signature.task, "task"),
        "args": write(list(signature.args), "args"),
        "kwargs": write(dict(signature.kwargs), "kwargs"),
        "options": write_options(options),
        "retries": write(parse_count(signature.options["retries"]), "retries"),
        "before": write(parse_count(headers.get(BEFORE) or 0), "before"),
    }
    return join(texts)
