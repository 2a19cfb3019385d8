"""The notifications on the channel ``pgreact``: one format, one parser.

===============================  ====================================  ==========================
payload                          sent by                               parsed as
===============================  ====================================  ==========================
``7``                            a writer: trigger, pgreact.signal     :class:`Signal`
``7 TRACEPARENT``                ``pgreact.signal`` within a trace     :class:`Signal`
``routes``                       the trigger on ``pgreact.route``      :class:`RoutesChanged`
``schedule``                     the trigger on ``pgreact.schedule``   :class:`SchedulesChanged`
``canary``                       the trigger ``canary`` of settings    :class:`CanaryChanged`
``flight 7 TASK-ID STATE``       a worker                              :class:`RunChanged`
===============================  ====================================  ==========================

The 7 is the id of a route. Any role may NOTIFY the channel, so any text may arrive.
"""

import dataclasses
import re
from typing import Literal, NamedTuple, get_args

CHANNEL = "pgreact"

RunState = Literal["started", "done", "failed", "dropped"]

_LARGEST_ID = 2**31 - 1  # of pgreact.route: an integer
_UNKNOWN_TASK = "-"
_TASK_ID = re.compile(r"\S{1,255}")
_TRACED = re.compile(r"(\d{1,10}) ([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})", re.ASCII)
_RUN_CHANGED = re.compile(rf"flight (\d{{1,10}}) (\S{{1,255}}) ({'|'.join(get_args(RunState))})", re.ASCII)


class Signal(NamedTuple):
    """Something changed for a route.

    Attributes:
        route_id: The route's id.
        traceparent: The trace context of the transaction, if it is known.
    """

    route_id: int
    traceparent: str | None = None


@dataclasses.dataclass(frozen=True)
class RoutesChanged:
    """The rows of ``pgreact.route`` changed."""


@dataclasses.dataclass(frozen=True)
class SchedulesChanged:
    """The rows of ``pgreact.schedule`` changed."""


@dataclasses.dataclass(frozen=True)
class CanaryChanged:
    """The interval or the queue of the canary changed."""


class RunChanged(NamedTuple):
    """The run of a route's task started or ended, or a worker dropped its message."""

    route_id: int
    task_id: str
    state: RunState


Notification = Signal | RoutesChanged | SchedulesChanged | CanaryChanged | RunChanged


_CHANGES: dict[str, Notification] = {
    "routes": RoutesChanged(),
    "schedule": SchedulesChanged(),
    "canary": CanaryChanged(),
}


def parse(payload: str) -> Notification | None:
    """Return what a notification says; ``None``: it is not one of pgreact's."""
    if payload.isascii() and payload.isdigit():
        # the length first: int() refuses some thousand digits
        return Signal(number) if len(payload) <= 10 and (number := int(payload)) <= _LARGEST_ID else None
    if payload in _CHANGES:
        return _CHANGES[payload]
    if (found := _TRACED.fullmatch(payload)) and int(found[1]) <= _LARGEST_ID:
        return Signal(int(found[1]), found[2])
    if (found := _RUN_CHANGED.fullmatch(payload)) and int(found[1]) <= _LARGEST_ID:
        state: RunState = found[3]  # type: ignore[assignment]
        return RunChanged(int(found[1]), found[2], state)
    return None


def run_changed(route_id: int, task_id: str, state: RunState) -> str:
    """Return the payload that reports a run.

    Args:
        route_id: The route's id.
        task_id: Celery's id of the call. One that the format cannot carry is left out: no flight has it.
        state: The run's new state.
    """
    return f"flight {route_id} {task_id if _TASK_ID.fullmatch(task_id) else _UNKNOWN_TASK} {state}"
