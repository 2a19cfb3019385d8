"""Requeue a message of a job of another database, received from a queue that both databases share."""

import logging
import time
from typing import Any

from celery import Task
from celery.app.task import Context

from pgreact.broker.message_headers import REQUEUES, parse_count
from pgreact.postgres.errors import describe
from pgreact.worker.headers import header
from pgreact.worker.jobs import OtherDatabase

PAUSE = 1.0  # seconds before each: two workers that pass a message between them must not spin
LIMIT = 20  # times; after the lease its own daemon publishes it again

_log = logging.getLogger("pgreact.worker")
_logged: set[str | None] = set()  # databases


def requeue(task: "Task[Any, Any]", error: OtherDatabase, request: Context | None = None) -> None:
    """Send a message to its queue again, for a worker of its own database.

    Args:
        task: The task that runs the message.
        error: Which database it is of.
        request: The message; ``None``: the one that the task runs.
    """
    if error.database not in _logged:
        _logged.add(error.database)
        _log.error(
            "message.misrouted: %s: its messages are requeued; give each database queues of its own, or both "
            "the same PGREACT_DSN",
            error,
        )
    request = task.request if request is None else request
    try:
        requeues = parse_count(header(request, REQUEUES) or 0)
    except ValueError:
        requeues = LIMIT
    if requeues >= LIMIT:
        return
    time.sleep(PAUSE)
    signature: Any = task.signature_from_request(
        request,
        request.args,  # type: ignore[arg-type]
        request.kwargs,  # type: ignore[arg-type]
    )
    signature.set(headers={**(signature.options.get("headers") or {}), REQUEUES: requeues + 1})
    try:
        signature.apply_async()
    except Exception as failure:  # noqa: BLE001 - its own daemon publishes it again, after its lease
        _log.warning("message.requeue_failed: task %s: %s", request.id, describe(failure))
