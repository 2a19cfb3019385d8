"""The headers of messages: pgreact's own, and the check of Celery's. A wrong value may end a worker."""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

JOB = "pgreact_job"  # the header of a job's messages
ROUTE = "pgreact_route"  # the header of the calls of a route with single_flight = "run"
TASK = "pgreact_task"  # the task of a job's message, whose own task is JOB_TASK
CLAIM = "pgreact_claim"  # the attempt of a message
DATABASE = "pgreact_database"  # the database of a message: pgreact.database_id()
ATTEMPT = "pgreact_attempt"
AGAIN = "pgreact_again"  # another attempt follows if this one fails
RETURNED = "pgreact_returned"  # how often workers of other databases have returned it
# The number of messages of the attempt before the first one of this task, which replaced another.
BEFORE = "pgreact_before"
OURS = frozenset({JOB, ROUTE, TASK, CLAIM, DATABASE, ATTEMPT, BEFORE, AGAIN, RETURNED})

# The task that the messages of jobs name. Only pgreact.setup registers it, so no other worker runs them.
JOB_TASK = "pgreact.job"

_LONGEST = 1e9  # seconds of a time limit
_YEARS = range(1970, 9000)  # in which every time zone can be computed


def unfit(headers: Mapping[str, object]) -> str | None:
    """Return why no worker could run a message; ``None``: one could.

    Args:
        headers: Celery's own headers, or the body of its first protocol, which has the same names.
    """
    for name, (is_fit, expected) in _KINDS.items():
        value = headers.get(name)
        if value is not None and not is_fit(value):
            return f"its header {name} is {repr(value)[:100]}, not {expected}"
    return None


def as_job(message: Any, options: dict[str, Any], task: str) -> None:
    """Change a job's message so that only a worker with pgreact runs it.

    Args:
        message: The message that Celery made.
        options: Celery sends it with them; their headers are added to the message's.
        task: The job's task, which Celery's logs and monitors show as the message's ``shadow``.
    """
    headers = {**(options.get("headers") or {}), TASK: task}
    headers.pop("task", None)  # a retry carries that of the previous message
    options["headers"] = headers
    data = message.headers
    if "task" in data:
        data["shadow"] = data.get("shadow") or task
    else:
        data = message.body  # of Celery's first protocol
    data["task"] = JOB_TASK


def whole(value: object) -> int:
    """Return the number in a header, which some brokers turn into text.

    Raises:
        ValueError: The value is no number, or negative.
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
