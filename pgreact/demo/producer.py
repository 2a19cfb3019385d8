"""The producer of jobs, and what it reads of their commits, starts and ends."""

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
    """An attempt of a job of the built-in queue, from its history; times in seconds since 1970."""

    job: int
    number: int
    outcome: str
    claimed: float
    started: float
    settled: float


class Producer:
    """Commit jobs, in the application's own tables and in the built-in queue."""

    def __init__(self, dsn: str) -> None:
        self.commits: list[Commit] = []
        self._connection = psycopg.connect(dsn, autocommit=True)

    def commit(self, jobs: int) -> Commit:
        """Insert a number of jobs in one transaction."""
        commit = self._committed(self._rows("demo_insert", jobs=jobs))
        self.commits.append(commit)
        return commit

    def done(self) -> dict[int, tuple[float, float]]:
        """Return start and end of each job that is done, in seconds since 1970."""
        return {job: (started, finished) for job, started, finished in self._rows("demo_done")}

    def enqueue(self, jobs: int, seconds: float, lane: str = "default") -> Commit:
        """Enqueue a number of jobs in the built-in queue in one transaction; each takes ``seconds``."""
        return self._committed(self._rows("demo_enqueue", jobs=jobs, seconds=seconds, lane=lane))

    def enqueue_and_roll_back(self) -> int:
        """Enqueue a job and roll back; return the id that it had."""
        with self._connection.transaction(force_rollback=True):
            return int(self._rows("demo_enqueue", jobs=1, seconds=0, lane="default")[0][0])

    def knows(self, job: int) -> bool:
        """Return whether the built-in queue or its history has a job."""
        return bool(self._rows("demo_trace", jobs=[job])[0][0])

    def worker_of(self, job: int) -> str | None:
        """Return the worker that runs a job of the built-in queue; ``None``: none does."""
        return next((worker for (worker,) in self._rows("demo_running", job=job)), None)

    def set_lease(self, seconds: float) -> None:
        """Set the lease of the built-in queue."""
        self._connection.execute(query("demo_lease").encode(), {"seconds": seconds})

    def attempts(self, jobs: Sequence[int]) -> list[Attempt]:
        """Return the attempts of jobs that were started and settled, in the order of their ends."""
        return [Attempt(*row) for row in self._rows("demo_attempts", jobs=list(jobs))]

    def _committed(self, rows: Sequence[tuple[Any, ...]]) -> Commit:
        """Return the commit of jobs, from rows of a job's id and its transaction's."""
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
