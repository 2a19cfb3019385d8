"""What django-celery-beat has in its tables. Django is not needed."""

import datetime
import json
import re
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from pgreact.errors import ConfigError
from pgreact.json_values import write
from pgreact.shipped import query
from pgreact.timetable.crontabs import FIELDS, cron
from pgreact.timetable.entries import call
from pgreact.timetable.last_run import went_on
from pgreact.timetable.uncarried import Uncarried

_OPTIONS = ("queue", "exchange", "routing_key", "priority")
_NOTHING = {"[]", "{}"}  # what most arguments are
_ODD = re.compile(r"__type__|\\u|\d[eE]|NaN|Infinity")
_JUST = datetime.timedelta(microseconds=1)


def read(
    connection: "psycopg.Connection[tuple[Any, ...]]", schema: str | None = None
) -> list[dict[str, Any] | Uncarried]:
    """Read all periodic tasks, disabled ones too.

    Args:
        connection: On the database that has the tables.
        schema: Where they are; else where its ``search_path`` finds them.

    Raises:
        ConfigError: They are not there.
    """
    try:
        with connection.transaction(), connection.cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute("set local search_path to default")
            if schema is not None:
                cursor.execute("select set_config('search_path', quote_ident(%s), true)", (schema,))
            tasks = cursor.execute(query("import_django").encode()).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise ConfigError(
            f"{error.diag.message_primary}: there are no tables of django-celery-beat 2.1 or later here; "
            "name database and schema with --from and --schema"
        ) from error
    known: dict[tuple[str, int], dict[str, Any]] = {}
    return [_carried(task, known) for task in tasks]


def _carried(task: Any, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any] | Uncarried:
    try:
        found = {**_call(task), **_when(task, known)}
    except Exception as error:  # noqa: BLE001 - Celery's own reading may raise anything
        return Uncarried(task.name, " ".join(str(error).split()))
    if not task.enabled:
        found["enabled"] = False
    if task.start_time is not None:
        found["start_at"] = task.start_time.isoformat()
    if task.description:
        found["description"] = task.description
    if "at" not in found:
        if task.one_off:
            found["max_runs"] = 1
        return went_on(found, _since(task), last_run_at=task.last_run_at, run_count=task.total_run_count)
    if not task.total_run_count:
        return found
    return went_on(found, task.last_run_at, last_run_at=task.last_run_at, run_count=task.total_run_count)


def _call(task: Any) -> dict[str, Any]:
    options = _options(task) if task.options else None
    return call(task.name, task.task, _json(task.args, "args"), _json(task.kwargs, "kwargs"), options)


def _options(task: Any) -> dict[str, Any]:
    options = {name: value for name in _OPTIONS if (value := getattr(task, name)) is not None}
    if headers := json.loads(task.headers or "{}"):
        options["headers"] = headers
    # one of the two may be set
    if expires := task.expires or task.expire_seconds:
        options["expires"] = expires
    return options


def _json(text: str | None, place: str) -> str | None:
    if not text or text in _NOTHING:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    # most is as PostgreSQL takes it
    return write(value, place) if _ODD.search(text) else text


def _when(task: Any, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    kinds = [kind for kind in _KINDS if getattr(task, f"{kind}_id") is not None]
    if len(kinds) != 1:
        raise ValueError(f"it has {' and '.join(kinds) or 'no schedule'}; one schedule it must have")
    key = kinds[0], getattr(task, f"{kinds[0]}_id")
    if key not in known:
        known[key] = _KINDS[kinds[0]](task)
    return known[key]


def _interval(task: Any) -> dict[str, Any]:
    return {"every": datetime.timedelta(**{task.period: task.every}).total_seconds()}


def _crontab(task: Any) -> dict[str, Any]:
    text, both = cron(*(getattr(task, name) for name in FIELDS))
    return {"cron": text, "timezone": task.timezone, **({"cron_and": True} if both else {})}


def _solar(task: Any) -> dict[str, Any]:
    return {"solar": f"{task.event} {task.latitude:f} {task.longitude:f}"}


def _clocked(task: Any) -> dict[str, Any]:
    return {"at": task.clocked_time.isoformat()}


_KINDS = {"interval": _interval, "crontab": _crontab, "solar": _solar, "clocked": _clocked}


def _since(task: Any) -> datetime.datetime:
    """From where on its Beat looks for what is due."""
    started = None if task.start_time is None else task.start_time - _JUST
    found: datetime.datetime = task.last_run_at or started or task.date_changed
    return found
