"""Commits jobs, and remembers when."""

import dataclasses
from types import TracebackType
from typing import Self

import psycopg

from pgreact.shipped import query


@dataclasses.dataclass(frozen=True)
class Commit:
    """One committed transaction; ``at`` is PostgreSQL's own commit time, in seconds since 1970."""

    at: float
    jobs: tuple[int, ...]


class Producer:
    """The writing side of the application."""

    def __init__(self, dsn: str) -> None:
        self.commits: list[Commit] = []
        self._connection = psycopg.connect(dsn, autocommit=True)

    def commit(self, jobs: int) -> Commit:
        """Insert so many jobs in one transaction."""
        rows = self._connection.execute(query("demo_insert").encode(), {"jobs": jobs}).fetchall()
        found = self._connection.execute(
            "select extract(epoch from pg_xact_commit_timestamp(%s::text::xid))::float8", (rows[0][1],)
        ).fetchone()
        assert found is not None
        commit = Commit(found[0], tuple(job for job, _ in rows))
        self.commits.append(commit)
        return commit

    def done(self) -> dict[int, tuple[float, float]]:
        """Return when each job that is done began and ended."""
        rows = self._connection.execute(query("demo_done").encode()).fetchall()
        return {job: (started, finished) for job, started, finished in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
