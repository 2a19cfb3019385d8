"""Settlements of several jobs of a bundle at once, which the lease renewer sends in the background.

=================== ======================================================= ==================================
class               the jobs                                                the lease
=================== ======================================================= ==================================
``EndedJobs``       ended well, and could not be settled at once            is renewed until they are settled
``HandedBack``      will not run here: back to the queue, no attempt spent  ends by itself if this is not sent
``AbandonedBundle`` of a message whose process died: the begun ones are     likewise
                    settled, the others handed back
=================== ======================================================= ==================================
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg

from pgreact.errors import NotGuarded
from pgreact.postgres.errors import ErrorKind, ascii_escaped
from pgreact.worker import counters
from pgreact.worker.bundle import BundledJob, as_array
from pgreact.worker.run import Run, has_ended, storable
from pgreact.worker.session import Session, meant

NOBODY = "-"  # a worker that has begun no job: a call in its name concerns unstarted attempts alone

_LOCKED = "55P03"
_log = logging.getLogger("pgreact.worker")


class Ended(NamedTuple):
    """A job whose body ended well."""

    run: Run
    began: float  # by the clock of the process
    ended: float


def is_locked(error: BaseException) -> bool:
    """Return whether a statement failed since another transaction holds a row."""
    return getattr(error.__cause__, "sqlstate", None) == _LOCKED


def settle_and_start(
    session: Session,
    done: Sequence[Ended],
    following: Sequence[Run],
    worker: str,
    now: float,
    publish_s: float = 0.0,
) -> tuple[float, set[int], bool]:
    """Settle jobs that ended well, and take attempts, in one statement.

    Args:
        session: With PostgreSQL.
        done: The jobs that ended well.
        following: The attempts to take.
        worker: The name of this process.
        now: The time by the clock of ``done``.
        publish_s: Seconds from the claim until the leader made the message.

    Returns:
        The lease in seconds; the ids of the jobs that may run; and whether another transaction, or another
        run of the message, holds one of ``following``: then none may.

    Raises:
        NotGuarded: PostgreSQL cannot be reached, or refuses, or another transaction holds a row of ``done``.
    """
    lease, started, held, ignored = session.execute_pinned(
        "job_settle_and_start",
        done=as_array(ended.run.job for ended in done),
        done_claims=as_array(ended.run.claim for ended in done),
        ago_s=as_array(now - ended.began for ended in done),
        run_s=as_array(ended.ended - ended.began for ended in done),
        next=as_array(run.job for run in following),
        next_claims=as_array(run.claim for run in following),
        worker=worker,
        publish_s=publish_s,
    )
    if done:
        counters.add("settled_done", len(done) - len(ignored))
        for ended in done if ignored else ():
            if ended.run.job in ignored:
                _log.warning(
                    "settlement.ignored: %s: done: the attempt had ended: its lease expired, or its worker's "
                    "main process settled it; it may run again",
                    ended.run,
                )
    if started:
        counters.add("started", len(started))
    return lease, set(started), held


class EndedJobs:
    """Jobs that ended well and are to be settled in the background."""

    ready = True

    def __init__(self, done: Sequence[Ended], clock: Callable[[], float]) -> None:
        """Take jobs, whose times are by a clock."""
        self._left = list(done)
        self._clock = clock
        self._singly = False  # a row was locked: the others must not wait for it

    @property
    def leased(self) -> list[Run]:
        """The runs whose leases are renewed until this is sent."""
        return [ended.run for ended in self._left]

    def repeats(self, other: object) -> bool:
        """Return whether this settles what another one settles; never."""
        return self is other

    def send(self, session: Session) -> None:
        """Settle them: all together, or one by one once a row was locked.

        Raises:
            NotGuarded: Some are left for the next time.
        """
        while self._left:
            part = self._left[: 1 if self._singly else None]
            try:
                settle_and_start(session, part, (), NOBODY, self._clock())
            except NotGuarded as error:
                if not is_locked(error):
                    raise
                if self._singly:
                    self._left = self._left[1:] + part
                    raise
                self._singly = True
                continue
            self._left = self._left[len(part) :]

    def __str__(self) -> str:
        return _named("done", [ended.run.job for ended in self._left])


class _Several:
    """Jobs that a statement takes, which returns those whose rows are locked."""

    leased: tuple[Run, ...] = ()
    ready = True

    def __init__(self, jobs: Sequence[tuple[int, str]], what: str) -> None:
        self._left = list(jobs)
        self._what = what

    def repeats(self, other: object) -> bool:
        """Return whether this does what another one does; never."""
        return self is other

    def _call(self, session: Session, statement: str, **values: Any) -> None:
        found = session.execute_pinned(
            statement,
            jobs=as_array(job for job, _ in self._left),
            claims=as_array(claim for _, claim in self._left),
            **values,
        )
        locked = set(found or ())
        self._left = [(job, claim) for job, claim in self._left if job in locked]
        if locked:
            rows = f"another transaction holds the rows of jobs {sorted(locked)}"
            raise NotGuarded(rows) from psycopg.errors.LockNotAvailable(rows)

    def __str__(self) -> str:
        return _named(self._what, [job for job, _ in self._left])


class HandedBack(_Several):
    """Jobs that will not run in this process."""

    def __init__(self, jobs: Sequence[tuple[int, str]], worker: str, *, alone: bool = False) -> None:
        """Take jobs.

        Args:
            jobs: Their ids, with the UUIDs of the attempts.
            worker: The name of this process, if it has begun these attempts and vouches that no body has
                run; else :data:`NOBODY`. Another run of the same message may have begun them under the same
                name.
            alone: They are to have messages of their own next time.
        """
        super().__init__(jobs, "handed back")
        self._worker = worker
        self._alone = alone

    def send(self, session: Session) -> None:
        """Put them back into the queue.

        Raises:
            NotGuarded: Some are left for the next time.
        """
        self._call(session, "job_hand_back", worker=self._worker, alone=self._alone)


class AbandonedBundle(_Several):
    """The jobs of a bundle whose process died, or is about to end."""

    def __init__(
        self, jobs: Sequence[BundledJob], worker: str, outcome: str, error: str, pid: int | None
    ) -> None:
        """Take jobs.

        Args:
            jobs: Those of the message.
            worker: The name of the process.
            outcome: Of those that it had begun, as ``pgreact.settle`` takes it.
            error: Why it died.
            pid: The child, which must have ended before this is sent.
        """
        super().__init__([(job.id, job.claim) for job in jobs], outcome)
        self._worker = worker
        self._error = storable(error)
        self._pid = pid

    @property
    def ready(self) -> bool:  # type: ignore[override]
        """Whether it may be sent: the child has ended."""
        return self._pid is None or has_ended(self._pid)

    def send(self, session: Session) -> None:
        """Settle and hand back.

        Raises:
            NotGuarded: Some are left for the next time.
        """
        try:
            self._send(session)
        except NotGuarded as error:
            if meant(error) is not ErrorKind.DATA:
                raise
            self._error = ascii_escaped(self._error)  # the database's encoding lacks some of its characters
            self._send(session)

    def _send(self, session: Session) -> None:
        self._call(session, "job_abandon_bundle", worker=self._worker, outcome=self._what, error=self._error)


def _named(what: str, jobs: Sequence[int]) -> str:
    return f"{len(jobs)} jobs of a bundle{f' from job {jobs[0]}' if jobs else ''}: {what}"
