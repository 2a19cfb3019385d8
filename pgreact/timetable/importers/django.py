"""Read django-celery-beat's tables. Does not need Django."""

import datetime
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from pgreact.broker.json_writer import write
from pgreact.errors import ConfigError
from pgreact.postgres.queries import query
from pgreact.timetable.importers.celery_schedules import FIELDS, cron
from pgreact.timetable.importers.entries import call, period
from pgreact.timetable.importers.last_run import resume_from
from pgreact.timetable.importers.skipped import Skipped

BY_DUMP = (
    'run "python manage.py dumpdata django_celery_beat > beat.json" and import the file with --dump beat.json'
)
_TIMES = ("expires", "start_time", "last_run_at", "date_changed", "clocked_time")
_OPTIONS = ("queue", "exchange", "routing_key", "priority")
_SECONDS = {"days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0, "microseconds": 1e-6}
_NOTHING = {"[]", "{}"}  # the value of most arguments
_ODD = re.compile(r"__type__|\\u|\d[eE]|NaN|Infinity")
_JUST = datetime.timedelta(microseconds=1)


def read(
    connection: "psycopg.Connection[tuple[Any, ...]]",
    schema: str | None = None,
    zone: datetime.tzinfo | None = None,
) -> list[dict[str, Any] | Skipped]:
    """Read all periodic tasks, disabled ones too.

    Args:
        connection: To the database with the tables.
        schema: Of the tables; default: where the ``search_path`` finds them.
        zone: Of crontabs and times without one: Django's ``TIME_ZONE``.

    Raises:
        ConfigError: The tables do not exist, or are of a version before 2.1.
    """
    try:
        with connection.transaction(), connection.cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute("set local search_path to default")
            if schema is not None:
                cursor.execute("select set_config('search_path', quote_ident(%s), true)", (schema,))
            tasks = cursor.execute(query("import_django").encode()).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        said = str(error.diag.message_primary)
        if isinstance(error, psycopg.errors.UndefinedTable) and "periodictask" in said:
            raise ConfigError(
                f"{said}: this database has no tables of django-celery-beat; give database and schema with "
                f"--from and --schema. If they are in MySQL or SQLite: {BY_DUMP}"
            ) from error
        raise ConfigError(
            f"{said}: the tables are of a django-celery-beat before 2.1; upgrade it and run its "
            f"migrations, or {BY_DUMP}"
        ) from error
    return rows(tasks, zone)


def refuse_other_databases(source: str) -> None:
    """Refuse a source that is not PostgreSQL.

    Args:
        source: The value of ``--from``.

    Raises:
        ConfigError: It is another database, or a file; the message says how to import its tables.
    """
    scheme, is_url, _ = source.partition("://")
    if is_url and scheme.lower() not in {"postgresql", "postgres"}:
        raise ConfigError(f"--from: {scheme} is not PostgreSQL, the only database this reads: {BY_DUMP}")
    if not is_url and "=" not in source and Path(source).is_file():
        raise ConfigError(f"--from: {source} is a file, not a DSN of PostgreSQL: {BY_DUMP}")


def rows(tasks: Iterable[Any], zone: datetime.tzinfo | None) -> list[dict[str, Any] | Skipped]:
    """Convert periodic tasks to rows.

    Args:
        tasks: With the query's columns as attributes.
        zone: As for ``read``.
    """
    known: dict[tuple[str, int], dict[str, Any]] = {}
    found: list[dict[str, Any] | Skipped] = []
    for task in tasks:
        try:
            found.append(_row(_in_zone(task, zone), known))
        except ValueError as error:
            found.append(Skipped(task.name, str(error)))
    return found


def _in_zone(task: Any, zone: datetime.tzinfo | None) -> Any:
    """Give the time zone to a crontab and times without one."""
    given: dict[str, Any] = {}
    if task.crontab_id is not None and not task.timezone:
        if zone is None:
            raise ValueError(
                "its crontab has a blank time zone, which stands for Django's TIME_ZONE: give that with "
                "--timezone"
            )
        given["timezone"] = str(zone)
    for name in _TIMES:
        moment = getattr(task, name)
        if moment is None or moment.tzinfo is not None:
            continue
        if zone is None:
            raise ValueError(
                f"its {name} has no time zone, as with USE_TZ = False: give Django's TIME_ZONE with "
                "--timezone"
            )
        given[name] = moment.replace(tzinfo=zone)
    return SimpleNamespace(**{**_columns(task), **given}) if given else task


def _columns(task: Any) -> dict[str, Any]:
    columns: dict[str, Any] = vars(task) if isinstance(task, SimpleNamespace) else task._asdict()
    return columns


def _row(task: Any, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any] | Skipped:
    try:
        found = {**_call(task), **_when(task, known)}
    except Exception as error:  # noqa: BLE001 - Celery's own reading may raise anything
        return Skipped(task.name, " ".join(str(error).split()))
    if not task.enabled:
        found["enabled"] = False
    if task.start_time is not None:
        found["start_at"] = task.start_time.isoformat()
    if task.description:
        found["description"] = task.description
    if task.clocked_id is not None:
        at = max(task.clocked_time, task.start_time or task.clocked_time)
        found["at"] = at.isoformat()
        # due at its time, unless it has run
        since = max(at, task.last_run_at or at) if task.total_run_count else at - _JUST
    else:
        since = _since(task)
        if task.one_off:
            found["max_runs"] = 1
    return resume_from(found, since, last_run_at=task.last_run_at, run_count=task.total_run_count)


def _call(task: Any) -> dict[str, Any]:
    options = _options(task) if task.options else None
    return call(task.name, task.task, _json(task.args, "args"), _json(task.kwargs, "kwargs"), options)


def _options(task: Any) -> dict[str, Any]:
    options = {name: value for name in _OPTIONS if (value := getattr(task, name)) is not None}
    if headers := _read(task.headers or "{}", "headers"):
        options["headers"] = headers
    # one of the two may be set
    if expires := task.expires or task.expire_seconds:
        options["expires"] = expires
    return options


def _json(text: str | None, place: str) -> str | None:
    if not text or text in _NOTHING:
        return None
    value = _read(text, place)
    if not value:
        return None  # null, which is no arguments to Celery, too
    # most JSON is kept as it is
    return write(value, place) if _ODD.search(text) else text


def _read(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _when(task: Any, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    kinds = [kind for kind in _KINDS if getattr(task, f"{kind}_id") is not None]
    if len(kinds) != 1:
        raise ValueError(f"it has {' and '.join(kinds) or 'no schedule'}; it needs exactly one")
    key = kinds[0], getattr(task, f"{kinds[0]}_id")
    if key not in known:
        known[key] = _KINDS[kinds[0]](task)
    return known[key]


def _interval(task: Any) -> dict[str, Any]:
    if task.period not in _SECONDS:
        raise ValueError(f'its interval is in "{task.period}", which is no period of django-celery-beat')
    return period(task.every * _SECONDS[task.period])


def _crontab(task: Any) -> dict[str, Any]:
    text, both = cron(*(getattr(task, name) for name in FIELDS))
    return {"cron": text, "timezone": task.timezone, **({"cron_and": True} if both else {})}


def _solar(task: Any) -> dict[str, Any]:
    return {"solar": f"{task.event} {task.latitude:f} {task.longitude:f}"}


def _clocked(task: Any) -> dict[str, Any]:
    return {"at": task.clocked_time.isoformat()}


_KINDS = {"interval": _interval, "crontab": _crontab, "solar": _solar, "clocked": _clocked}


def _since(task: Any) -> datetime.datetime:
    """Return the moment after which Beat looks for an occurrence."""
    started = None if task.start_time is None else task.start_time - _JUST
    found: datetime.datetime = task.last_run_at or started or task.date_changed
    return found
