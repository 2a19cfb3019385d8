"""Migrations of pgreact's schema: numbered files, and all functions as one more."""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Literal

from psycopg import sql

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection
from pgreact.postgres.queries import folder

FUNCTIONS = "functions"  # the name of their row in pgreact.migration
# pgreact.lock_class('apply'), as a number: the lock is taken before that function exists
APPLY_LOCK = "select pg_advisory_xact_lock(1885827687, 0)"


@dataclasses.dataclass(frozen=True)
class Migration:
    """One migration: a numbered file, or all functions together."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """A hash of the text, to find out whether it changed since it ran."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The name in a plan."""
        return "schema pgreact: " + (self.name if self.name == FUNCTIONS else f"migration {self.name}")

    @property
    def script(self) -> str:
        """The text, and the statement that records it in pgreact.migration."""
        record = sql.SQL(
            "insert into pgreact.migration (name, checksum) values ({}, {}) "
            "on conflict (name) do update set checksum = excluded.checksum, applied_at = now();"
        ).format(self.name, self.checksum)
        return f"{self.text.rstrip()}\n\n{record.as_string()}"


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the numbered migrations in order."""
    files = sorted((folder("sql") / "migrations").glob("*.sql"))
    return tuple(Migration(file.stem, file.read_text(encoding="utf-8")) for file in files)


@cache
def functions() -> Migration:
    """Return all functions as one migration, which runs again whenever one of them changes."""
    files = sorted((folder("sql") / "functions").glob("*.sql"))
    return Migration(FUNCTIONS, "\n".join(file.read_text(encoding="utf-8") for file in files))


def applied(connection: Connection) -> dict[str, str]:
    """Return the checksums of the migrations that have run, by name; empty: there is no schema.

    Args:
        connection: Any session on the database.

    Raises:
        PgreactError: There is a schema ``pgreact`` of another origin.
    """
    there, ours = connection.execute(
        "select to_regnamespace('pgreact') is not null, to_regclass('pgreact.migration') is not null"
    ).fetchall()[0]
    if not there:
        return {}
    if not ours:
        raise PgreactError("there is a schema pgreact that pgreact did not make: rename it first")
    return dict(connection.execute("select name, checksum from pgreact.migration").fetchall())


def missing(applied: Mapping[str, str]) -> list[tuple[Literal["+", "~"], Migration]]:
    """Return the migrations that have not run, and the functions if they have changed.

    Args:
        applied: The checksums of those that have run, by name, as ``pgreact.migration`` has them.

    Returns:
        Each with the sign of a plan: ``+`` is new, ``~`` changes what is there.

    Raises:
        PgreactError: A migration of a newer pgreact has run.
    """
    steps = migrations()
    if newer := sorted(set(applied) - {step.name for step in steps} - {FUNCTIONS}):
        raise PgreactError(
            f"this database was set up by a newer pgreact (migration {newer[-1]}): "
            "install that version or newer"
        )
    found: list[tuple[Literal["+", "~"], Migration]] = [
        ("+", step) for step in steps if step.name not in applied
    ]
    latest = functions()
    if applied.get(FUNCTIONS) != latest.checksum:
        found.append(("~" if FUNCTIONS in applied else "+", latest))
    return found
