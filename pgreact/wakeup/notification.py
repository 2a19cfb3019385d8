"""The notifications on the channel ``pgreact``: one format, one parser.

===============================  ====================================  ==========================
payload                          sent by                               parsed as
===============================  ====================================  ==========================
``7``                            a writer: trigger, pgreact.signal     :class:`Signal`
``routes``                       the trigger on ``pgreact.route``      :class:`RoutesChanged`
``schedule``                     the trigger on ``pgreact.schedule``   :class:`SchedulesChanged`
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
_RUN_CHANGED = re.compile(rf"flight (\d{{1,10}}) (\S{{1,255}}) ({'|'.join(get_args(RunState))})", re.ASCII)


class Signal(NamedTuple):
    """Something changed for a route."""

    route_id: int


@dataclasses.dataclass(frozen=True)
class RoutesChanged:
    """The rows of ``pgreact.route`` changed."""


@dataclasses.dataclass(frozen=True)
class SchedulesChanged:
    """The rows of ``pgreact.schedule`` changed."""


class RunChanged(NamedTuple):
    """The run of a route's task started or ended, or a worker dropped its message."""

    route_id: int
    task_id: str
    state: RunState


Notification = Signal | RoutesChanged | SchedulesChanged | RunChanged


def parse(payload: str) -> Notification | None:
    """Return what a notification says; ``None``: it is not one of pgreact's."""
    if payload.isascii() and payload.isdigit():
        return _signal(payload)
    if payload == "routes":
        return RoutesChanged()
    if payload == "schedule":
        return SchedulesChanged()
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


def _signal(digits: str) -> Signal | None:
    if len(digits) > 10 or int(digits) > _LARGEST_ID:  # int() refuses more than some thousand digits
        return None
    return Signal(int(digits))
