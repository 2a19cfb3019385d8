"""Celery's task events for the jobs of a bundle: a child records what happened, the main process sends it."""

from collections.abc import Sequence
from typing import Any

from celery import states
from celery.utils.saferepr import saferepr

from pgreact.broker.json_reader import read
from pgreact.worker.bundle import BundledJob

WANTED = "pgreact_events"  # a header that the main process adds: the child records events

# What happened to a job: its place in the bundle, when it began (seconds since 1970), its run time,
# Celery's state, and what else the event has, as texts.
Record = tuple[int, float, float, str, str, str]

_NAMES = {
    states.SUCCESS: "task-succeeded",
    states.FAILURE: "task-failed",
    states.RETRY: "task-retried",
    states.REJECTED: "task-rejected",
}


def are_wanted(eventer: Any) -> bool:
    """Return whether a worker sends task events."""
    return bool(eventer and eventer.enabled and (not eventer.groups or "task" in eventer.groups))


def record(place: int, began: float, seconds: float, traced: Any) -> Record:
    """Return what happened to a job.

    Args:
        place: In the bundle.
        began: When it began, in seconds since 1970.
        seconds: How long it took.
        traced: The answer of Celery's tracer.
    """
    result, info, runtime, text = traced
    if info is None:
        return place, began, runtime or seconds, states.SUCCESS, text or "", ""
    error = saferepr(getattr(info.retval, "exc", None) or info.retval)
    return place, began, seconds, info.state, error, str(getattr(result, "traceback", None) or "")


def send_received(eventer: Any, jobs: Sequence[BundledJob], name: str) -> None:
    """Send the events of jobs that a worker received."""
    for job in jobs:
        eventer.send(
            "task-received",
            uuid=job.task_id, name=name, args=_shown(job.args, tuple), kwargs=_shown(job.kwargs, dict),
            root_id=job.task_id, parent_id=None, retries=0, eta=None, expires=None,
        )  # fmt: skip


def send_records(eventer: Any, jobs: Sequence[BundledJob], records: Sequence[Record]) -> None:
    """Send the events of jobs that ran."""
    for place, began, seconds, state, text, traceback in records:
        uuid = jobs[place].task_id
        eventer.send("task-started", uuid=uuid, timestamp=began)
        if (name := _NAMES.get(state)) is None:
            continue
        if state == states.SUCCESS:
            fields: dict[str, Any] = {"result": text, "runtime": seconds}
        elif state == states.REJECTED:
            fields = {"requeue": False}
        else:
            fields = {"exception": text, "traceback": traceback}
        eventer.send(name, uuid=uuid, timestamp=began + seconds, **fields)


def _shown(text: str, kind: type[Any]) -> str:
    """Return arguments as Celery shows them."""
    try:
        return saferepr(kind(read(text, marked=True)))
    except Exception:  # noqa: BLE001 - the job is settled as invalid
        return text
