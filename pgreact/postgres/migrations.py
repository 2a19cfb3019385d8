"""Migrations of pgreact's schema: numbered files, and all functions as one more."""

import dataclasses
import hashlib

from psycopg import sql

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
    def script(self) -> str:
        """The text, and the statement that records it in pgreact.migration."""
        record = sql.SQL(
            "insert into pgreact.migration (name, checksum) values ({}, {}) "
            "on conflict (name) do update set checksum = excluded.checksum, applied_at = now();"
        ).format(self.name, self.checksum)
        return f"{self.text.rstrip()}\n\n{record.as_string()}"


def migrations() -> list[Migration]:
    """Return the numbered migrations in order."""
    files = sorted((folder("sql") / "migrations").glob("*.sql"))
    return [Migration(file.stem, file.read_text(encoding="utf-8")) for file in files]


def functions() -> Migration:
    """Return all functions as one migration, which runs again whenever one of them changes."""
    files = sorted((folder("sql") / "functions").glob("*.sql"))
    return Migration(FUNCTIONS, "\n".join(file.read_text(encoding="utf-8") for file in files))
