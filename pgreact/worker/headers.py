"""Reading the headers of a message: the route or job that it belongs to."""

import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from pgreact.broker.message_headers import (
    BEFORE,
    CLAIM,
    DATABASE,
    JOB,
    PUBLISH_S,
    ROUTE,
    parse_count,
    parse_seconds,
)
from pgreact.errors import NotGuarded
from pgreact.worker.run import Run, worker_name

ENTERED = "_pgreact_entered"  # an attribute of a request: its job has passed the guard
BUNDLED = "_pgreact_bundled"  # likewise: the loop of its bundle, and its run
_LIMITS = {ROUTE: 2**31, JOB: 2**63}


def header(request: Any, name: str) -> object:
    """Return the value of one of pgreact's headers, or ``None``.

    Args:
        request: Celery's, or ``None``.
        name: The header's name.
    """
    value: object = getattr(request, name, None)
    if value is None:
        headers = getattr(request, "headers", None)
        value = headers.get(name) if isinstance(headers, Mapping) else None
    return value


def id_header(request: Any, name: str) -> int | None:
    """Return the id of the message's route or job; ``None``: it belongs to none.

    Args:
        request: Celery's, or ``None``.
        name: The header: ``JOB`` or ``ROUTE``.

    Raises:
        NotGuarded: The header is there, but is not an id.
    """
    value = header(request, name)
    if value is None:
        return None
    try:
        found = parse_count(value)
    except ValueError:
        found = 0
    if not 0 < found < _LIMITS[name]:
        raise NotGuarded(f"header {name} is {value!r}, not the id of a {name.removeprefix('pgreact_')}")
    return found


def task_id(request: Any) -> str:
    """Return the task's id, or a new one for a call that has none."""
    return getattr(request, "id", None) or str(uuid4())


def claim_of(request: Any) -> str | None:
    """Return the UUID of the message's attempt; ``None``: it names none."""
    value = header(request, CLAIM)
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def run_of(request: Any, job: int) -> Run:
    """Return the run of a job's message in this process.

    Raises:
        NotGuarded: The headers do not name the attempt, or its count of messages is not a number.
    """
    claim = claim_of(request)
    if claim is None:
        raise NotGuarded(f"job {job}: header {CLAIM} is {header(request, CLAIM)!r}, not a UUID")
    try:
        retries = parse_count(request.retries or 0) + parse_count(header(request, BEFORE) or 0)
    except ValueError as error:
        raise NotGuarded(f"job {job}: header retries or {BEFORE}: {error}") from None
    database = header(request, DATABASE)
    return Run(
        job,
        claim,
        min(retries, 2**31 - 1),
        worker_name(request.hostname, os.getpid()),
        str(request.id),
        database if isinstance(database, str) else None,
        publish_s=parse_seconds(header(request, PUBLISH_S)),
    )
