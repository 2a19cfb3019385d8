"""What a message says of itself: which route or job it is of."""

import os
from typing import Any
from uuid import UUID, uuid4

from pgreact.worker.jobs import Run, worker_name
from pgreact.worker.session import NotGuarded

ROUTE = "pgreact_route"  # the header of a route's calls
JOB = "pgreact_job"  # and of a job's
ENTERED = "_pgreact_entered"  # of a request: the guard has seen it
_LIMITS = {ROUTE: 2**31, JOB: 2**63}


def number(request: Any, header: str) -> int | None:
    """Return the id of the route or job whose message this is; ``None`` for all others.

    Args:
        request: Celery's, or ``None``.
        header: :data:`ROUTE` or :data:`JOB`.

    Raises:
        NotGuarded: The header is there, and is no id.
    """
    value = getattr(request, header, None)
    if value is None:
        headers = getattr(request, "headers", None)
        value = headers.get(header) if headers else None
    if value is None:
        return None
    try:
        found = int(value)  # some brokers turn numbers into text
    except (TypeError, ValueError):
        found = 0
    if not 0 < found < _LIMITS[header]:
        raise NotGuarded(f"header {header} is {value!r}, not the id of a {header.removeprefix('pgreact_')}")
    return found


def task_id(request: Any) -> str:
    """Return the task's id, or one that nobody knows."""
    return getattr(request, "id", None) or str(uuid4())


def run_of(request: Any, job: int) -> Run:
    """Return what is to be run in this process.

    Raises:
        NotGuarded: The task's id cannot be one that a job was published with.
    """
    try:
        attempt = str(UUID(request.id))
    except (TypeError, ValueError, AttributeError):
        raise NotGuarded(f"job {job}: its message has the task id {request.id!r}, which is no UUID") from None
    return Run(job, attempt, request.retries or 0, worker_name(request.hostname, os.getpid()))
