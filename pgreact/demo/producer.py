"""The writing side of the demo: commits jobs and reads back what became of them."""

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psycopg

from pgreact.postgres.queries import query


@dataclasses.dataclass(frozen=True)
class Commit:
    """A committed transaction; ``at`` is PostgreSQL's commit time, in seconds since 1970."""

    at: float
    jobs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of a job of the built-in queue, from the history; times in seconds since 1970."""

    job: int
    number: int
    outcome: str
    claimed: float
    started: float
    settled: float


class Producer:
    """A session of the application."""

    def __init__(self, dsn: str) -> None:
        self.commits: list[Commit] = []
        self._connection = psycopg.connect(dsn, autocommit=True)

    def commit(self, jobs: int) -> Commit:
        """Insert jobs in one transaction."""
        commit = self._committed(self._rows("demo_insert", jobs=jobs))
        self.commits.append(commit)
        return commit

    def done(self) -> dict[int, tuple[float, float]]:
        """Return start and end of each job that is done, in seconds since 1970."""
        return {job: (started, finished) for job, started, finished in self._rows("demo_done")}

    def enqueue(self, jobs: int, seconds: float, lane: str = "default") -> Commit:
        """Enqueue jobs of the built-in queue in one transaction; each runs for ``seconds``."""
        return self._committed(self._rows("demo_enqueue", jobs=jobs, seconds=seconds, lane=lane))

    def enqueue_and_roll_back(self) -> int:
        """Enqueue a job and roll back; return its id."""
        with self._connection.transaction(force_rollback=True):
            return int(self._rows("demo_enqueue", jobs=1, seconds=0, lane="default")[0][0])

    def knows(self, job: int) -> bool:
        """Return whether the built-in queue or its history has a job."""
        return bool(self._rows("demo_trace", jobs=[job])[0][0])

    def worker_of(self, job: int) -> str | None:
        """Return the name of the worker that runs a job of the built-in queue, if one does."""
        return next((worker for (worker,) in self._rows("demo_running", job=job)), None)

    def set_lease(self, seconds: float) -> None:
        """Set the lease of the built-in queue."""
        self._connection.execute(query("demo_lease").encode(), {"seconds": seconds})

    def attempts(self, jobs: Sequence[int]) -> list[Attempt]:
        """Return the settled attempts of these jobs, by the time of their end."""
        return [Attempt(*row) for row in self._rows("demo_attempts", jobs=list(jobs))]

    def _committed(self, rows: Sequence[tuple[Any, ...]]) -> Commit:
        """Return the commit of rows that hold a job's id and its transaction's id."""
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
