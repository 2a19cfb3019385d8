"""The arguments of jobs as texts for people, without what is hidden."""

import json
from collections.abc import Sequence
from typing import Any

from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.queue.redaction import Redaction

SECTIONS = ("args", "kwargs", "options")
_LARGEST = 1_100_000  # bytes of a job's arguments, with which it can be enqueued
_EXCERPT = 120  # characters
_EXCERPTED = 4_000  # bytes of which an excerpt is made


def arguments(connection: Connection, job: int, redaction: Redaction) -> dict[str, str] | None:
    """Return args, kwargs and options of a job as indented JSON; ``None``: no such job, or too large."""
    found = rows(connection, query("job_arguments"), {"ids": [job], "largest": _LARGEST})
    if not found or found[0]["args"] is None:
        return None
    row = found[0]
    return {
        section: written(redaction.arguments(row["task"], section, parsed(row[section])), indent=2)
        for section in SECTIONS
    }


def excerpts(connection: Connection, ids: Sequence[int], redaction: Redaction) -> dict[int, str]:
    """Return the arguments of jobs in a line each, by id; long ones are cut."""
    found = rows(connection, query("job_arguments"), {"ids": [*ids], "largest": _EXCERPTED})
    return {row["id"]: _excerpt(row, redaction) for row in found}


def parsed(text: str) -> Any:
    """Return the value of a JSON text, or the text if Python cannot parse it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _excerpt(row: dict[str, Any], redaction: Redaction) -> str:
    if row["args"] is None:
        return "(large)"
    args, kwargs = (redaction.arguments(row["task"], name, parsed(row[name])) for name in ("args", "kwargs"))
    parts = [written(value) for value in args] if isinstance(args, list) else [str(args)]
    parts += (
        [f"{name}={written(value)}" for name, value in kwargs.items()]
        if isinstance(kwargs, dict)
        else [str(kwargs)]
    )
    line = ", ".join(parts)
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"


def written(value: Any, indent: int | None = None) -> str:
    """Return arguments as JSON for people; a text that could not be parsed, or is hidden, stays as it is."""
    return (
        value if isinstance(value, str) and indent else json.dumps(value, ensure_ascii=False, indent=indent)
    )
