"""The form of a schedule: its columns as texts, and what is wrong with them."""

import json
from collections.abc import Mapping
from typing import Any

from pgreact.postgres.change import Connection
from pgreact.quantities import format_duration
from pgreact.timetable import edit
from pgreact.timetable.columns import CHOICES, FLAGS, JSON, VALUES, Mistakes, read_columns
from pgreact.timetable.plan import MANAGED
from pgreact.timetable.settings import WAYS, ScheduleSettings

HIDEABLE = JSON  # columns that [web] redact may hide
_DURATIONS = ("every", "jitter", "grace", "expires", "retention")
_SWITCHED = ("enabled",)  # by actions of their own


def texts(row: Mapping[str, Any], *, hidden: bool) -> dict[str, str]:
    """Return the columns of a schedule as the fields of its form.

    Args:
        row: Of ``pgreact.schedule``.
        hidden: Leave out the arguments.
    """
    left_out = HIDEABLE if hidden else ()
    return {
        name: _text(name, row[name]) for name in MANAGED if name not in left_out and name not in _SWITCHED
    }


def defaults() -> dict[str, str]:
    """Return the fields of the form of a new schedule."""
    fields = ScheduleSettings.model_fields
    return {
        name: "" if field.is_required() else _text(name, field.default)
        for name, field in fields.items()
        if name not in _SWITCHED
    }


def read(given: Mapping[str, str]) -> ScheduleSettings:
    """Return the schedule that a form's fields describe.

    Raises:
        Mistakes: Fields are wrong.
    """
    if not given.get("task"):
        raise Mistakes({"task": "a schedule needs the name of a task"})
    if sum(bool(given.get(way)) for way in WAYS) != 1:
        raise Mistakes({"every": f"fill in exactly one of {', '.join(WAYS)}"})
    return read_columns({name: value for name, value in given.items() if value})


def add(connection: Connection, name: str, given: Mapping[str, str]) -> None:
    """Add the schedule of a form.

    Raises:
        Mistakes: Fields are wrong.
    """
    wanted = read(given)
    try:
        edit.add(connection, name, wanted)
    except edit.Refused as error:
        raise Mistakes({error.column or "": str(error)}) from None


def change(connection: Connection, row: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """Change a schedule as its form says.

    Args:
        connection: A session.
        row: The schedule as it is now.
        given: The form's fields; columns that it lacks stay as they are.

    Returns:
        The columns that changed.

    Raises:
        Mistakes: Fields are wrong.
    """
    wanted = read(given).model_dump(mode="json")
    # only what the user has changed, since another edit may have changed the rest
    before = texts(row, hidden=False)
    changes = {
        name: wanted[name]
        for name, text in before.items()
        if name in given and _canonical(name, given[name]) != _canonical(name, text)
    }
    changes = {name: value for name, value in changes.items() if name not in WAYS or value is not None}
    if changes:
        try:
            edit.edit(connection, row["name"], changes)
        except edit.Refused as error:
            raise Mistakes({error.column or "": str(error)}) from None
    return list(changes)


def fields(form: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that a form has."""
    known = {"task", *VALUES, *CHOICES, *FLAGS} - set(_SWITCHED)
    found = {name: value for name, value in form.items() if name in known and isinstance(value, str)}
    return {name: value.replace("\r\n", "\n").strip() for name, value in found.items()}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _DURATIONS:
        return format_duration(value if isinstance(value, int | float) else value.total_seconds())
    if name in JSON:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _canonical(name: str, text: str) -> Any:
    return json.loads(text) if name in JSON and text else text
