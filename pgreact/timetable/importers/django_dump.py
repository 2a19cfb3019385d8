"""Read the output of ``manage.py dumpdata django_celery_beat``, of any database and of older versions."""

import datetime
import decimal
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pgreact.errors import ConfigError
from pgreact.timetable.importers.django import rows
from pgreact.timetable.importers.skipped import Skipped

_APP = "django_celery_beat."
_KINDS = ("interval", "crontab", "solar", "clocked")
# the columns of the query import_django, with their values in versions that lack them
_TASK = {
    "name": "", "task": "", "args": "[]", "kwargs": "{}", "queue": None, "exchange": None,
    "routing_key": None, "headers": "{}", "priority": None, "expires": None, "expire_seconds": None,
    "one_off": False, "start_time": None, "enabled": True, "last_run_at": None, "total_run_count": 0,
    "date_changed": None, "description": "",
}  # fmt: skip
_SCHEDULE = {
    "every": None, "period": None, "minute": "*", "hour": "*", "day_of_month": "*", "month_of_year": "*",
    "day_of_week": "*", "timezone": "", "event": None, "latitude": None, "longitude": None,
    "clocked_time": None,
}  # fmt: skip
_MOMENTS = {"expires", "start_time", "last_run_at", "date_changed", "clocked_time"}


def read(file: Path, zone: datetime.tzinfo | None = None) -> list[dict[str, Any] | Skipped]:
    """Read all periodic tasks, disabled ones too.

    Args:
        file: The output of ``dumpdata``, as JSON.
        zone: Of crontabs and times without one: Django's ``TIME_ZONE``.

    Raises:
        ConfigError: The file does not exist, or is not such an output.
    """
    try:
        objects = json.loads(file.read_bytes())
        stored = {(each["model"].removeprefix(_APP), each["pk"]): each["fields"] for each in objects}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f'{file}: not an output of "python manage.py dumpdata django_celery_beat": '
            f"{type(error).__name__}: {error}"
        ) from error
    if not any(model == "periodictask" for model, _ in stored):
        raise ConfigError(f"{file}: has no periodic tasks of django-celery-beat")
    return list(_rows(stored, zone))


def _rows(
    stored: Mapping[tuple[str, Any], Mapping[str, Any]], zone: datetime.tzinfo | None
) -> Iterator[dict[str, Any] | Skipped]:
    for (model, _), fields in stored.items():
        if model != "periodictask":
            continue
        try:
            task = _task(fields, stored)
        except (ValueError, ArithmeticError, KeyError, TypeError) as error:
            yield Skipped(str(fields.get("name")), f"{type(error).__name__}: {error}")
        else:
            yield from rows([task], zone)


def _task(fields: Mapping[str, Any], stored: Mapping[tuple[str, Any], Mapping[str, Any]]) -> SimpleNamespace:
    keys = {kind: fields.get(kind) for kind in _KINDS}
    schedule: dict[str, Any] = {}
    for kind, key in keys.items():
        if key is not None:
            schedule |= stored[f"{kind}schedule", key]
    columns = {name: fields.get(name, default) for name, default in _TASK.items()}
    columns |= {name: schedule.get(name, default) for name, default in _SCHEDULE.items()}
    for name in _MOMENTS:
        if columns[name] is not None:
            columns[name] = datetime.datetime.fromisoformat(columns[name])
    for name in ("latitude", "longitude"):
        if columns[name] is not None:
            columns[name] = decimal.Decimal(columns[name])
    if columns["date_changed"] is None:  # of a version that does not record it
        columns["date_changed"] = datetime.datetime.now(datetime.UTC)
    return SimpleNamespace(options=1, **{f"{kind}_id": key for kind, key in keys.items()}, **columns)
