"""Commits jobs, and remembers when."""

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psycopg

from pgreact.postgres.queries import query


@dataclasses.dataclass(frozen=True)
class Commit:
    """One committed transaction; ``at`` is PostgreSQL's own commit time, in seconds since 1970."""

    at: float
    jobs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of a job of the built-in queue, as the history has it; moments in seconds since 1970."""

    job: int
    number: int
    outcome: str
    claimed: float
    started: float
    settled: float


class Producer:
    """The writing side of the application."""

    def __init__(self, dsn: str) -> None:
        self.commits: list[Commit] = []
        self._connection = psycopg.connect(dsn, autocommit=True)

    def commit(self, jobs: int) -> Commit:
        """Insert so many jobs in one transaction."""
        commit = self._committed(self._rows("demo_insert", jobs=jobs))
        self.commits.append(commit)
        return commit

    def done(self) -> dict[int, tuple[float, float]]:
        """Return when each job that is done began and ended."""
        return {job: (started, finished) for job, started, finished in self._rows("demo_done")}

    def enqueue(self, jobs: int, seconds: float, lane: str = "default") -> Commit:
        """Enqueue so many jobs of so many seconds each in the built-in queue, in one transaction."""
        return self._committed(self._rows("demo_enqueue", jobs=jobs, seconds=seconds, lane=lane))

    def enqueue_and_roll_back(self) -> int:
        """Enqueue a job, and think better of it; return the id that it had."""
        with self._connection.transaction(force_rollback=True):
            return int(self._rows("demo_enqueue", jobs=1, seconds=0, lane="default")[0][0])

    def knows(self, job: int) -> bool:
        """Return whether the built-in queue or its history has a job."""
        return bool(self._rows("demo_trace", jobs=[job])[0][0])

    def worker_of(self, job: int) -> str | None:
        """Return who runs a job of the built-in queue, if somebody does."""
        return next((worker for (worker,) in self._rows("demo_running", job=job)), None)

    def set_lease(self, seconds: float) -> None:
        """Set how long the built-in queue waits for a word of a job's worker."""
        self._connection.execute(query("demo_lease").encode(), {"seconds": seconds})

    def attempts(self, jobs: Sequence[int]) -> list[Attempt]:
        """Return the attempts of these jobs that were started and settled, in the order of their ends."""
        return [Attempt(*row) for row in self._rows("demo_attempts", jobs=list(jobs))]

    def _committed(self, rows: Sequence[tuple[Any, ...]]) -> Commit:
        """Return the commit of rows of a job and the transaction that made it."""
        ((at,),) = self._rows("demo_committed_at", xid=rows[0][1])
        return Commit(at, tuple(job for job, _ in rows))

    def _rows(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query(name).encode(), values).fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
