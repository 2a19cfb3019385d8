"""What a message says of itself: which route or job it is of."""

import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from pgreact.broker.message_headers import BEFORE, CLAIM, DATABASE, JOB, ROUTE, whole
from pgreact.errors import NotGuarded
from pgreact.worker.jobs import Run, worker_name

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


def claim_of(request: Any) -> str | None:
    """Return which attempt of a job a message is of, as PostgreSQL has it; ``None``: it does not say."""
    value = header(request, CLAIM)
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def run_of(request: Any, job: int) -> Run:
    """Return what is to be run in this process.

    Raises:
        NotGuarded: The message does not say which attempt it is of, or its number is none.
    """
    claim = claim_of(request)
    if claim is None:
        raise NotGuarded(f"job {job}: its message's header {CLAIM} is {header(request, CLAIM)!r}, not a UUID")
    try:
        retries = whole(request.retries or 0) + whole(header(request, BEFORE) or 0)
    except ValueError as error:
        raise NotGuarded(f"job {job}: its message's number is none: {error}") from None
    database = header(request, DATABASE)
    return Run(
        job,
        claim,
        min(retries, 2**31 - 1),
        worker_name(request.hostname, os.getpid()),
        str(request.id),
        database if isinstance(database, str) else None,
    )
