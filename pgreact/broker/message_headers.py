"""The headers of messages: pgreact's own, and the kinds of values that Celery's must have.

A header of the wrong kind may end the worker that reads it: the daemon sends no such message, and a worker
with ``pgreact.setup`` rejects it.
"""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

JOB = "pgreact_job"  # the id of the job whose message this is
JOBS = "pgreact_jobs"  # a bundle: the number of jobs whose message this is
ROUTE = "pgreact_route"  # the id of the route that published this message
TASK = "pgreact_task"  # the task of a job's message, which names JOB_TASK
CLAIM = "pgreact_claim"  # the UUID of the attempt
DATABASE = "pgreact_database"  # the database of the job: pgreact.database_id()
ATTEMPT = "pgreact_attempt"  # the number of the attempt
AGAIN = "pgreact_again"  # another attempt will follow if this one fails
PUBLISH_S = "pgreact_publish_s"  # seconds from the claim until the leader made this message
REQUEUES = "pgreact_requeues"  # how often workers of other databases have requeued it
# The number of messages of the attempt before the first one of this task, which replaced another.
BEFORE = "pgreact_before"
OURS = frozenset({JOB, JOBS, ROUTE, TASK, CLAIM, DATABASE, ATTEMPT, BEFORE, AGAIN, PUBLISH_S, REQUEUES})

# The task that messages of jobs name. Only pgreact.setup registers it: other workers reject them.
JOB_TASK = "pgreact.job"

_DAY = 86400.0
_LONGEST = 1e9  # seconds of a time limit
_YEARS = range(1970, 9000)  # in which times of every zone can be computed


def unfit(headers: Mapping[str, object]) -> str | None:
    """Return why no worker can run a message; ``None``: one can.

    Args:
        headers: Of Celery's second protocol; or the body of its first, which has the same names.
    """
    for name, (is_fit, expected) in _KINDS.items():
        value = headers.get(name)
        if value is not None and not is_fit(value):
            return f"its header {name} is {repr(value)[:100]}, not {expected}"
    return None


def as_job(message: Any, options: dict[str, Any], task: str) -> None:
    """Let only workers with ``pgreact.setup`` accept a job's message: let it name :data:`JOB_TASK`.

    Args:
        message: As Celery made it; changed in place.
        options: With which Celery sends it; the headers in it are added to the message's. Changed in place.
        task: The task's name, which Celery's logs and monitors show as the ``shadow``.
    """
    headers = {**(options.get("headers") or {}), TASK: task}
    headers.pop("task", None)  # a retry has it from the message before
    options["headers"] = headers
    fields = message.headers
    if "task" in fields:
        fields["shadow"] = fields.get("shadow") or task
    else:
        fields = message.body  # of Celery's first protocol
    fields["task"] = JOB_TASK


def of_kind(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that a job's message has in common with others of its task and options."""
    return {name: value for name, value in headers.items() if name not in OURS or name == TASK}


def parse_count(value: object) -> int:
    """Return a header that is a count. Some brokers turn numbers into text.

    Raises:
        ValueError: It is not a whole number, or negative.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{value!r} is not a count")


def parse_seconds(value: object) -> float:
    """Return a header that is a time; 0.0 if it is missing, or no time within a day."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return found if 0 <= found <= _DAY else 0.0


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
