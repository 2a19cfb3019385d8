"""What a message says of itself: which route or job it is of."""

import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from pgreact.message_headers import BEFORE, JOB, ROUTE, whole
from pgreact.worker.jobs import Run, worker_name
from pgreact.worker.session import NotGuarded

ENTERED = "_pgreact_entered"  # of a request: the guard has seen it
_LIMITS = {ROUTE: 2**31, JOB: 2**63}


def header(request: Any, name: str) -> object:
    """Return the value of one of our headers, or ``None``.

    Args:
        request: Celery's, or ``None``.
        name: The header's.
    """
    value: object = getattr(request, name, None)
    if value is None:
        headers = getattr(request, "headers", None)
        value = headers.get(name) if isinstance(headers, Mapping) else None
    return value


def number(request: Any, name: str) -> int | None:
    """Return the id of the route or job whose message this is; ``None`` for all others.

    Args:
        request: Celery's, or ``None``.
        name: The header: ``JOB`` or ``ROUTE``.

    Raises:
        NotGuarded: The header is there, and is no id.
    """
    value = header(request, name)
    if value is None:
        return None
    try:
        found = whole(value)
    except ValueError:
        found = 0
    if not 0 < found < _LIMITS[name]:
        raise NotGuarded(f"header {name} is {value!r}, not the id of a {name.removeprefix('pgreact_')}")
    return found


def task_id(request: Any) -> str:
    """Return the task's id, or one that nobody knows."""
    return getattr(request, "id", None) or str(uuid4())


def attempt_of(task_id: object) -> str | None:
    """Return the id of a job's attempt as PostgreSQL has it; ``None``: it is none."""
    try:
        return str(UUID(task_id)) if isinstance(task_id, str) else None
    except ValueError:
        return None


def run_of(request: Any, job: int) -> Run:
    """Return what is to be run in this process.

    Raises:
        NotGuarded: The task's id cannot be one that a job was published with, or its number is none.
    """
    attempt = attempt_of(request.id)
    if attempt is None:
        raise NotGuarded(f"job {job}: its message has the task id {request.id!r}, which is no UUID")
    try:
        retries = whole(request.retries or 0) + whole(header(request, BEFORE) or 0)
    except ValueError as error:
        raise NotGuarded(f"job {job}: its message's number is none: {error}") from None
    return Run(job, attempt, min(retries, 2**31 - 1), worker_name(request.hostname, os.getpid()))
