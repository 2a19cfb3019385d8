"""Convert entries of Celery's ``beat_schedule`` to rows of ``pgreact.schedule``."""

import datetime
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry
from kombu import Exchange, Queue

from pgreact.broker.json_writer import write
from pgreact.quantities import format_duration
from pgreact.timetable.importers.celery_schedules import recurrence_columns, rounded
from pgreact.timetable.importers.skipped import Skipped

_KNOWN = {"name", "task", "schedule", "args", "kwargs", "options", "relative", "enabled"}
_RUNTIME = {"app", "last_run_at", "total_run_count"}  # of a ScheduleEntry
_REFUSED = {
    "countdown": "a schedule fires when it is due; let it be due later",
    "eta": "a schedule fires when it is due; use the column at",
    "task_id": "each occurrence has an id of its own",
}
_LONGEST = 200  # characters of a schedule's name
_PERIODS = 0.1, 36_500 * 86_400  # seconds
# attributes of a kombu Queue that a sender declares
_DECLARED = (
    *("durable", "exclusive", "auto_delete", "queue_arguments", "expires", "message_ttl", "max_length"),
    *("max_length_bytes", "max_priority"),
)
# how Beat retries publishing; pgreact retries until it succeeds
_DROPPED = {"retry", "retry_policy"}


def row(name: object, entry: object, app: Celery) -> dict[str, Any] | Skipped:
    """Convert an entry to the columns that it decides.

    Args:
        name: Its key in ``beat_schedule``.
        entry: A dict as in ``beat_schedule``, or a ``ScheduleEntry``.
        app: Its time zone and ``beat_cron_starting_deadline`` count.

    Returns:
        Columns of ``pgreact.schedule`` by name, ready for JSON: moments in ISO 8601, durations in seconds,
        ``args``, ``kwargs`` and ``options`` as JSON text. Defaults are left out. ``grid`` is the anchor of a
        relative interval that begins now. Or why the entry is skipped. The options for retries of publishing
        are dropped.
    """
    title = _title(str(name))
    try:
        return _row(title, entry, app)
    except (TypeError, ValueError, OverflowError) as error:
        return Skipped(title, str(error))
    except Exception as error:  # noqa: BLE001 - Celery's objects may run the application's code
        return Skipped(title, f"{type(error).__name__}: {error}")


def _title(name: str) -> str:
    """Shorten a long name, always to the same one: a default name is the call with its arguments."""
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:12]
    return f"{name[: _LONGEST - len(digest) - 4]}... {digest}"


def call(
    name: str, task: object, args: str | None, kwargs: str | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the columns of the call, in the form that ``row`` returns.

    Args:
        name: Of the schedule.
        task: Its name.
        args: Its arguments as JSON; ``None``: none.
        kwargs: Its keyword arguments, likewise.
        options: Of ``apply_async``.

    Raises:
        TypeError: A value has a type that no column can hold.
        ValueError: A value cannot be converted.
    """
    if not 1 <= len(name) <= _LONGEST:
        raise ValueError(f"its name has {len(name)} characters; a schedule's has 1 to {_LONGEST}")
    if not isinstance(task, str):
        raise TypeError(f"its task is {task!r}, not a name")
    columns: dict[str, Any] = {"name": _plain(name, "name"), "task": _plain(task, "task")}
    if args is not None:
        columns["args"] = args
    if kwargs is not None:
        columns["kwargs"] = kwargs
    if options:
        columns |= _options(dict(options))
    return columns


def period(seconds: float) -> dict[str, Any]:
    """Return the column of an interval, in the form that ``row`` returns.

    Raises:
        ValueError: The interval is too short or too long for a schedule.
    """
    shortest, longest = _PERIODS
    if seconds < shortest:
        raise ValueError(
            f"its interval is {format_duration(seconds)}, and the shortest is {format_duration(shortest)}, "
            "since each run is a transaction: lengthen it, or let the task repeat its work"
        )
    if seconds > longest:
        raise ValueError(
            f"its interval is {format_duration(seconds)}, and the longest is {format_duration(longest)}: "
            "shorten it"
        )
    return {"every": seconds}


def _row(name: str, entry: object, app: Celery) -> dict[str, Any]:
    fields = _fields(entry)
    args, kwargs = _args(fields.get("args")), _kwargs(fields.get("kwargs"))
    columns = call(name, fields.get("task"), args, kwargs, _named(fields.get("options"), app))
    if fields.get("schedule") is None:
        raise ValueError("it has no schedule")
    when = recurrence_columns(fields["schedule"], app, relative=bool(fields.get("relative")))
    if "every" in when:
        period(when["every"])
    if "relative" in when:  # without a run Beat counts from now
        when["grid"] = rounded(when, app.now())[0].isoformat()
    return {**columns, **when, **({} if fields.get("enabled", True) else {"enabled": False})}


def _args(given: object) -> str | None:
    if not given:
        return None
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise TypeError(f"args is of type {type(given).__name__}, not a list")
    args = list(given)
    for place, value in enumerate(args):
        _refuse_lazy(value, f"args[{place}]")
    return write(args, "args")


def _kwargs(given: object) -> str | None:
    if not given:
        return None
    if not isinstance(given, Mapping):
        raise TypeError(f"kwargs is of type {type(given).__name__}, not a dict")
    for name, value in given.items():
        _refuse_lazy(value, f'kwargs["{name}"]')
    return write(dict(given), "kwargs")


def _refuse_lazy(value: object, place: str) -> None:
    if isinstance(value, BeatLazyFunc):
        raise TypeError(
            f"{place} is a BeatLazyFunc, which Beat calls at each send; a row holds values only: let the "
            "task "
            "call it"
        )


def _named(options: Any, app: Celery) -> Any:
    """Replace kombu's objects by the names of their queue or exchange."""
    if not options:
        return options
    named = dict(options)
    if isinstance(named.get("exchange"), Exchange):
        named["exchange"] = named["exchange"].name
    if isinstance(queue := named.get("queue"), Queue):
        _check_queue(queue, app)
        named["queue"] = queue.name
    return named


def _check_queue(queue: Any, app: Celery) -> None:
    """Refuse a queue that would be declared otherwise by its name alone."""
    try:
        known: Any = app.amqp.queues[queue.name]
    except KeyError:
        known = None
    same = known is not None and all(
        (getattr(known, name, None) or None) == (getattr(queue, name, None) or None) for name in _DECLARED
    )
    direct = same and known.exchange.type == "direct" == queue.exchange.type
    if not direct and known != queue:
        raise ValueError(
            "its option queue is a Queue object that the application's task_queues does not have: add the "
            f'Queue "{queue.name}" there'
        )


def _fields(entry: object) -> Mapping[str, Any]:
    if isinstance(entry, ScheduleEntry):
        return vars(entry)
    if not isinstance(entry, Mapping):
        raise TypeError(f"it is of type {type(entry).__name__}, not a dict")
    for key in entry:
        if key not in _KNOWN | _RUNTIME:
            raise ValueError(f'unknown key "{key}"')
    return entry


def _options(options: dict[str, Any]) -> dict[str, Any]:
    for name, why in _REFUSED.items():
        if options.get(name) is not None:
            raise ValueError(f"its option {name} is not supported: {why}")
    columns = _expiry(options.pop("expires", None))
    kept = {name: value for name, value in options.items() if value is not None and name not in _DROPPED}
    return {**columns, "options": write(kept, "options")} if kept else columns


def _expiry(expires: object) -> dict[str, Any]:
    """Return ``expires`` for a duration, which counts from each occurrence, or ``end_at`` for a moment."""
    if isinstance(expires, str):
        expires = datetime.datetime.fromisoformat(expires)
    if isinstance(expires, datetime.datetime):
        if expires.tzinfo is None:
            expires = expires.replace(tzinfo=datetime.UTC)  # as Celery's workers do
        return {"end_at": expires.isoformat()}
    if isinstance(expires, datetime.timedelta):
        expires = expires.total_seconds()
    if expires is None:
        return {}
    if not isinstance(expires, int | float) or not (math.isfinite(expires) and expires > 0):
        raise ValueError(f"its option expires is {expires!r}, neither a duration nor a moment")
    return {"expires": expires}


def _plain(text: str, place: str) -> str:
    if not text.isascii() or "\0" in text:
        write(text, place)  # refuses what PostgreSQL does not store
    return text
