"""What a worker must be able to read in a message's headers: a value of the wrong kind may end it."""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

JOB = "pgreact_job"  # the header of a job's messages
ROUTE = "pgreact_route"  # and of a route's calls
TASK = "pgreact_task"  # what a job's message calls, under the name JOB_TASK
CLAIM = "pgreact_claim"  # which attempt a message is of
DATABASE = "pgreact_database"  # which database it comes from: pgreact.database_id()
ATTEMPT = "pgreact_attempt"
AGAIN = "pgreact_again"  # another attempt follows if this one fails
REQUEUES = "pgreact_requeues"  # how often workers of other databases have requeued it
# How many messages of the attempt there were before the first one of this task, which replaced another.
BEFORE = "pgreact_before"
OURS = frozenset({JOB, ROUTE, TASK, CLAIM, DATABASE, ATTEMPT, BEFORE, AGAIN, REQUEUES})

# The task that messages of jobs name. Only pgreact.setup registers it: a worker without it takes none.
JOB_TASK = "pgreact.job"

_LONGEST = 1e9  # seconds of a time limit
_YEARS = range(1970, 9000)  # in all of which any time zone can be reckoned with


def unfit(headers: Mapping[str, object]) -> str | None:
    """Return why no worker could run a message; ``None``: it could.

    Args:
        headers: Celery's own, of its second protocol; or the body of its first, which has the same names.
    """
    for name, (is_fit, expected) in _KINDS.items():
        value = headers.get(name)
        if value is not None and not is_fit(value):
            return f"its header {name} is {repr(value)[:100]}, not {expected}"
    return None


def as_job(message: Any, options: dict[str, Any], task: str) -> None:
    """Let nobody take a job's message but a worker that knows what a job is.

    Args:
        message: As Celery has made it.
        options: What Celery sends it with; its headers are added to the message's.
        task: What the message calls; Celery's logs and monitors show it, as its ``shadow``.
    """
    headers = {**(options.get("headers") or {}), TASK: task}
    headers.pop("task", None)  # a retry carries that of the message before it
    options["headers"] = headers
    said = message.headers
    if "task" in said:
        said["shadow"] = said.get("shadow") or task
    else:
        said = message.body  # of Celery's first protocol
    said["task"] = JOB_TASK


def parse_count(value: object) -> int:
    """Return a header's number, which some brokers turn into text.

    Raises:
        ValueError: It is none, or negative.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{value!r} is no number")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_seconds(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= _LONGEST
    )


def _is_time_limit(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(limit is None or _is_seconds(limit) for limit in value)
    )


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.datetime.fromisoformat(value).year in _YEARS
    except ValueError:
        return False


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


_TEXT = (_is_text, "text")
_MOMENT = (_is_moment, "a date with time between 1970 and 9000")
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "id": _TEXT,
    "task": _TEXT,
    "retries": (_is_count, "a count"),
    "timelimit": (_is_time_limit, "two numbers of seconds, or null: time_limit and soft_time_limit"),
    "eta": _MOMENT,
    "expires": _MOMENT,
    "shadow": _TEXT,
    "lang": _TEXT,
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "group": _TEXT,
    "group_index": (_is_count, "a count"),
    "replaced_task_nesting": (_is_count, "a count"),
    "origin": _TEXT,
    "argsrepr": _TEXT,
    "kwargsrepr": _TEXT,
    "stamped_headers": (_is_texts, "a list of names"),
    "stamps": (_is_mapping, "an object"),
    "headers": (_is_mapping, "an object"),
}
