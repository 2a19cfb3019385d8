"""Celery's remote-control commands about a task's id find the jobs of bundles, too.

A bundle is no entry per job for Celery, which would cost each job some time. So the commands get the entries
they ask for, while they run.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import state
from celery.worker.control import Panel

from pgreact.worker.bundle_request import BundledRequest, BundleRequest

_COMMANDS = {"revoke": "task_id", "query_task": "ids"}  # with the argument that has the ids


def register() -> None:
    """Let the commands of this process's workers find the jobs of bundles."""
    for name, argument in _COMMANDS.items():
        command = Panel.data[name]
        if not getattr(command, "_pgreact", False):
            Panel.data[name] = _finding(command, argument)


def _finding(command: Callable[..., Any], argument: str) -> Callable[..., Any]:
    @functools.wraps(command)
    def finding(control: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs.get(argument, args[0] if args else None)
        with _entries(maybe_list(ids) or []):
            return command(control, *args, **kwargs)

    finding._pgreact = True  # type: ignore[attr-defined]
    return finding


@contextlib.contextmanager
def _entries(ids: Iterable[Any]) -> Iterator[None]:
    """Enter jobs of bundles into Celery's tables of requests."""
    wanted = {one for one in ids if isinstance(one, str)} - state.requests.keys()
    bundles = [request for request in state.requests.values() if isinstance(request, BundleRequest)]
    found: list[BundledRequest] = []
    for bundle in bundles if wanted else ():
        tables = [table for table in (state.reserved_requests, state.active_requests) if bundle in table]
        for job in bundle.jobs:
            if job.task_id in wanted:
                entry = BundledRequest(bundle, job)
                found.append(entry)
                state.requests[entry.id] = entry
                for table in tables:
                    table.add(entry)
    try:
        yield
    finally:
        for entry in found:
            state.requests.pop(entry.id, None)
            state.reserved_requests.discard(entry)
            state.active_requests.discard(entry)
