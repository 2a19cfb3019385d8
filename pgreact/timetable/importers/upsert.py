"""Rows that come from elsewhere, into ``pgreact.schedule``."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import psycopg

from pgreact.postgres.refusal import refusal
from pgreact.timetable.importers.skipped import Uncarried

Connection = psycopg.Connection[tuple[Any, ...]]

_REASONS = {
    "sql": "a schedule of this name was made in SQL: rename one of them",
    "imported": "a schedule of this name was imported, and is left as it is: remove it, or hand it over by "
    "setting its column origin to 'app'",
    "config": "pgreact.toml has a schedule of this name: rename one of them",
    "app": 'a schedule of this name is kept by "celery beat -S pgreact" already',
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each schedule, by name.

    Attributes:
        carried: Are new.
        changed: Their source says something else than before.
        unchanged: It does not; they are as they were, edits made meanwhile included.
        removed: Their source no longer has them.
        uncarried: Stayed behind.
    """

    carried: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    uncarried: tuple[Uncarried, ...] = ()


def write(
    connection: Connection,
    rows: Iterable[dict[str, Any] | Uncarried],
    origin: Literal["sql", "app"],
    *,
    prune: bool = False,
) -> Report:
    """Write rows in one transaction, and by one statement where none is refused.

    A row whose source says what it said the last time is left alone, with whatever was edited meanwhile. One
    of another origin is not touched.

    Args:
        connection: Any session on the database.
        rows: As ``entries.row`` and ``last_run.went_on`` make them. What is no row goes into the report.
        origin: Of the rows written.
        prune: Remove rows of this origin that are not among these.

    Raises:
        psycopg.Error: The database refused for a reason that lies in no row.
    """
    given: dict[str, dict[str, Any]] = {}
    uncarried: list[Uncarried] = []
    for row in rows:
        if isinstance(row, Uncarried):
            uncarried.append(row)
        elif row["name"] in given:
            uncarried.append(Uncarried(row["name"], "its source has another of this name"))
        else:
            given[row["name"]] = row
    found: dict[str, list[str]] = {"carried": [], "changed": [], "unchanged": []}
    with connection.transaction():
        for name, verdict in _put(connection, list(given.values()), origin):
            if verdict in found:
                found[verdict].append(name)
            else:
                uncarried.append(Uncarried(name, _REASONS.get(verdict, verdict)))
        kept = [*given, *(entry.name for entry in uncarried)]
        removed = _prune(connection, kept, origin) if prune else []
    return Report(
        **{verdict: tuple(names) for verdict, names in found.items()},
        removed=tuple(removed),
        uncarried=tuple(uncarried),
    )


def _put(
    connection: Connection, rows: Sequence[dict[str, Any]], origin: str, *, again: bool = False
) -> Iterable[tuple[Any, ...]]:
    """Write all; where one is refused, halves, until it stands alone."""
    if not rows:
        return []
    try:
        with connection.transaction():
            return connection.execute(
                "select name, verdict from pgreact.upsert_schedules(%s, %s)", (json.dumps(rows), origin)
            ).fetchall()
    except psycopg.errors.UniqueViolation:
        if again:
            raise
    except psycopg.Error as error:
        if (why := refusal(error)) is None:
            raise
        if len(rows) == 1:
            return [(rows[0]["name"], why)]
        middle = len(rows) // 2
        return [*_put(connection, rows[:middle], origin), *_put(connection, rows[middle:], origin)]
    # somebody wrote one of them meanwhile, and now it is seen
    return _put(connection, rows, origin, again=True)


def _prune(connection: Connection, kept: Sequence[str], origin: str) -> list[str]:
    gone = connection.execute(
        "delete from pgreact.schedule where origin = %s and name <> all (%s) returning name",
        (origin, kept),
    )
    return [name for (name,) in gone.fetchall()]
