"""The migrations of pgreact's schema: numbered files, and all functions as one step."""

import dataclasses
import hashlib

from psycopg import sql

from pgreact.postgres.queries import folder

FUNCTIONS = "functions"  # their row in pgreact.migration
# pgreact.lock_class('apply') says the same; it is needed before that function exists
APPLY_LOCK = "select pg_advisory_xact_lock(1885827687, 0)"


@dataclasses.dataclass(frozen=True)
class Migration:
    """One step of the schema: a numbered file, or all functions together."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Tells whether the text was changed since it ran."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def script(self) -> str:
        """The step and the record that it was taken."""
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
    """Return all functions as one step, which is taken anew whenever one of them changes."""
    files = sorted((folder("sql") / "functions").glob("*.sql"))
    return Migration(FUNCTIONS, "\n".join(file.read_text(encoding="utf-8") for file in files))
