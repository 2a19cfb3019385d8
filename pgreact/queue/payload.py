"""The payload of a job: the JSON that the queries of enqueue read."""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from reprlib import repr  # noqa: A004 - shortens values in errors
from typing import Any
from uuid import UUID

from pgreact import tracing
from pgreact.broker.json_writer import join, write, write_options
from pgreact.queue.job import Job
from pgreact.queue.signature import signature_of

_REFUSED = {
    "countdown": "give run_at",
    "eta": "give run_at",
    "task_id": "it is an argument of its own",
}


def payload(job: Job) -> str:
    """Return a job as JSON text. What the job leaves out gets the server's default.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: PostgreSQL cannot store a parameter, or no worker can read it.
    """
    given = job.parameters
    signature = signature_of(job.task, _list("args", job.args), _dict("kwargs", job.kwargs))
    options = {**signature.options, **_own_options(given.get("options"))}
    run_at = given.get("run_at")
    fields = {
        "task": _text("task", signature.task),
        "args": write(_list("args", signature.args), "args"),
        "kwargs": write(_dict("kwargs", signature.kwargs), "kwargs"),
        **_time("run_at", "run_in", run_at if run_at is not None else signature.run_at),
        **_time("expires", "expires_in", given.get("expires")),
    }
    for name, value in given.items():
        if name in _WRITERS and (value is not None or name not in _OPTIONAL):
            fields[name] = _WRITERS[name](name, value)
    task_id = given.get("task_id")
    if task_id is None:
        task_id = signature.task_id
    if task_id is not None:
        fields["task_id"] = write(_uuid("task_id", task_id), "task_id")
    if trace := tracing.current():
        fields["trace"] = write(trace, "trace")
    if options:
        if isinstance(expires := options.get("expires"), datetime.datetime):
            options["expires"] = _instant('options["expires"]', expires)
        fields["options"] = write_options(options)
    return join(fields)


def _uuid(name: str, value: object) -> str:
    if not isinstance(value, str | UUID):
        raise TypeError(f"{name} is {repr(value)}, neither text nor a UUID")
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ValueError(f"{name} is {repr(value)}, not a UUID: Celery's own ids are such") from None


def _own_options(given: object) -> dict[str, Any]:
    options = {name: value for name, value in _dict("options", given).items() if value is not None}
    for name, hint in _REFUSED.items():
        if name in options:
            raise ValueError(f'options: no "{name}"; {hint}')
    return options


def _list(name: str, value: object) -> list[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return list(value)
    raise TypeError(f"{name} is of type {type(value).__name__}, not a list or tuple")


def _dict(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is of type {type(value).__name__}, not a dict")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name}: {repr(key)} is no name; names are text")
    return dict(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {repr(value)}, not text")
    return write(value, name)


def _integer(name: str, value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {repr(value)}, not a whole number")
    return write(value, name)


def _time(at: str, after: str, value: object) -> dict[str, str]:
    """Return the field of a point in time, or that of an interval, which the server counts from its clock."""
    if value is None:
        return {}
    if isinstance(value, datetime.datetime):
        return {at: write(_instant(at, value), at)}
    return {after: _interval(at, value)}


def _instant(name: str, value: datetime.datetime) -> str:
    if value.utcoffset() is None:
        raise ValueError(
            f"{name}: {value.isoformat()} has no time zone; give it one, like datetime.now(timezone.utc), "
            "or give a timedelta from now"
        )
    return value.astimezone(datetime.UTC).isoformat()


def _interval(name: str, value: object) -> str:
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {repr(value)}, not a time: give seconds or a timedelta")
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value} is no number of seconds")
    return write(f"{value:.6f} seconds", name)


_WRITERS: dict[str, Callable[[str, object], str]] = {
    "lane": _text,
    "priority": _integer,
    "key": _text,
    "unique_key": _text,
    "unique_while": _text,
    "max_attempts": _integer,
    "max_lost": _integer,
    "backoff": _interval,
}
_OPTIONAL = {"lane", "key", "unique_key", "max_lost"}  # None is the same as not given
