"""What Celery's ``self.retry()`` would send, as the job keeps it.

The message waits in PostgreSQL instead, where it takes no place, no worker's memory and no prefetch count.
"""

from typing import Any

from pgreact.broker.json_writer import join, write, write_options
from pgreact.broker.message_headers import BEFORE, OURS, whole

# What the next message gets anew, and what a broker said of the one before.
_DROPPED = {"task_id", "retries", "countdown", "eta", "origin", "headers", "redelivered"}


def resumption(signature: Any) -> str:
    """Return the message of a retry as JSON text in ASCII, for ``pgreact.postpone``.

    Raises:
        TypeError: An argument is not JSON.
        ValueError: It is, but cannot be kept.
    """
    headers = signature.options.get("headers") or {}
    options = {
        name: value for name, value in signature.options.items() if name not in _DROPPED and value is not None
    }
    own = {name: value for name, value in headers.items() if name not in OURS}
    if own:
        options["headers"] = own
    if (expires := options.get("expires")) is not None and hasattr(expires, "isoformat"):
        options["expires"] = expires.isoformat()
    texts = {
        "task": write(signature.task, "task"),
        "args": write(list(signature.args), "args"),
        "kwargs": write(dict(signature.kwargs), "kwargs"),
        "options": write_options(options),
        "retries": write(whole(signature.options["retries"]), "retries"),
        "before": write(whole(headers.get(BEFORE) or 0), "before"),
    }
    return join(texts)
