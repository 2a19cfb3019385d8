"""Write an importer's rows into ``pgreact.schedule``."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import psycopg

from pgreact.postgres.refusal import refusal
from pgreact.timetable.importers.skipped import Skipped

Connection = psycopg.Connection[tuple[Any, ...]]

_REASONS = {
    "sql": "a schedule of this name was made in SQL: rename one of them",
    "imported": "a schedule of this name was imported and stays as it is: remove it, or set its column "
    "origin "
    "to 'app'",
    "config": "pgreact.toml has a schedule of this name: rename one of them",
    "app": 'a schedule of this name is already managed by "celery beat -S pgreact"',
}


@dataclasses.dataclass(frozen=True)
class Report:
    """The names of the schedules, by what an import did.

    Attributes:
        added: Inserted.
        changed: Updated: their source has changed since the last import.
        unchanged: Left alone, with any edits made here.
        removed: Deleted: their source no longer has them.
        skipped: Not written, with the reason.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def write(
    connection: Connection,
    rows: Iterable[dict[str, Any] | Skipped],
    origin: Literal["sql", "app"],
    *,
    prune: bool = False,
) -> Report:
    """Write rows in one transaction, by one statement if none is refused.

    A row whose source has not changed since the last import is left alone, with any edits made here. So is a
    row of another origin.

    Args:
        connection: Any session on the database.
        rows: As ``entries.row`` and ``last_run.resume_from`` return them. Skipped entries go into the report.
        origin: Of the rows written.
        prune: Delete rows of this origin that are not among these.

    Raises:
        psycopg.Error: The database refused the statement, and no row is at fault.
    """
    given: dict[str, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    for row in rows:
        if isinstance(row, Skipped):
            skipped.append(row)
        elif row["name"] in given:
            skipped.append(Skipped(row["name"], "its source has another entry of this name"))
        else:
            given[row["name"]] = row
    found: dict[str, list[str]] = {"added": [], "changed": [], "unchanged": []}
    with connection.transaction():
        for name, outcome in _put(connection, list(given.values()), origin):
            if outcome in found:
                found[outcome].append(name)
            else:
                skipped.append(Skipped(name, _REASONS.get(outcome, outcome)))
        kept = [*given, *(entry.name for entry in skipped)]
        removed = _prune(connection, kept, origin) if prune else []
    return Report(
        **{outcome: tuple(names) for outcome, names in found.items()},
        removed=tuple(removed),
        skipped=tuple(skipped),
    )


def _put(
    connection: Connection, rows: Sequence[dict[str, Any]], origin: str, *, again: bool = False
) -> Iterable[tuple[Any, ...]]:
    """Write all rows; if one is refused, search it by halves. Return names with outcomes or refusals."""
    if not rows:
        return []
    try:
        with connection.transaction():
            return connection.execute(
                "select name, outcome from pgreact.upsert_schedules(%s, %s)", (json.dumps(rows), origin)
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
    # another transaction inserted one of the names; the second try sees its row
    return _put(connection, rows, origin, again=True)


def _prune(connection: Connection, kept: Sequence[str], origin: str) -> list[str]:
    gone = connection.execute(
        "delete from pgreact.schedule where origin = %s and name <> all (%s) returning name",
        (origin, kept),
    )
    return [name for (name,) in gone.fetchall()]
