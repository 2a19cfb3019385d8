"""Messages of jobs of another database, which came to a worker of ours by a queue that both share."""

import logging
import time
from typing import Any

from celery import Task
from celery.app.task import Context

from pgreact.broker.message_headers import RETURNED, whole
from pgreact.postgres.errors import said
from pgreact.worker.headers import header
from pgreact.worker.jobs import Foreign

PAUSE = 1.0  # seconds: or two workers, neither of which can take it, would do nothing else
MOST = 20  # times; then its own leader sends it again

_log = logging.getLogger("pgreact.worker")
_told: set[str | None] = set()  # databases


def hand_back(task: "Task[Any, Any]", error: Foreign) -> None:
    """Send a message again, so that a worker of its own database may get it."""
    if error.database not in _told:
        _told.add(error.database)
        _log.error(
            "job.foreign: %s: its messages are handed back; give each database queues of its own, or both "
            "the same PGREACT_DSN",
            error,
        )
    request: Context = task.request
    try:
        times = whole(header(request, RETURNED) or 0)
    except ValueError:
        times = MOST
    if times >= MOST:
        return
    time.sleep(PAUSE)
    signature: Any = task.signature_from_request(
        request,
        request.args,  # type: ignore[arg-type]
        request.kwargs,  # type: ignore[arg-type]
    )
    signature.set(headers={**(signature.options.get("headers") or {}), RETURNED: times + 1})
    try:
        signature.apply_async()
    except Exception as failure:  # noqa: BLE001 - its own leader sends it again, after its lease
        _log.warning("job.foreign: task %s: cannot be handed back: %s", request.id, said(failure))
