"""The worker's half of a job: take its attempt, keep its lease while it runs, tell how it ended.

Words name the attempt by its job and its claim: one that comes twice, or too late, changes nothing. A
word that PostgreSQL does not hear is told in the background, until it does: see
:mod:`pgreact.worker.lease_renewer`.
"""

import atexit
import dataclasses
import logging
import os
import traceback
import weakref
from typing import NamedTuple

from celery.exceptions import SoftTimeLimitExceeded

from pgreact.errors import NotGuarded
from pgreact.postgres.errors import Meaning
from pgreact.worker.lease_renewer import Keeper
from pgreact.worker.session import Session, Sessions, meant
from pgreact.worker.trouble import Trouble, patiently

PATIENCE = 5.0  # seconds a message waits for a database that is away, before it is given up
FAREWELL = 5.0  # seconds a process that ends may take to tell what it has not told yet
_ERROR = 8192  # bytes of an error that are kept
_FRAMES = 6  # of its traceback, the innermost

_log = logging.getLogger("pgreact.worker")


@dataclasses.dataclass(eq=False, slots=True)
class Run:
    """One message of a job, to be run or not."""

    job: int
    claim: str  # which attempt it is of
    retries: int  # messages of the attempt before this one: Celery's own retries, and replaced tasks
    worker: str
    task_id: str = ""  # Celery's, for the log
    database: str | None = None  # which published it, if the message says so
    pid: int = dataclasses.field(default_factory=os.getpid)

    def same_as(self, other: "Run") -> bool:
        """Whether both stand for the same message."""
        return (self.claim, self.retries) == (other.claim, other.retries)

    def __str__(self) -> str:
        return f"job {self.job}, task {self.task_id}"


def worker_name(hostname: str | None, pid: int | None) -> str:
    """Return what a process of a worker is called in ``pgreact.in_progress``."""
    return f"{hostname or '-'} {pid or '-'}"[-200:]


class Word(NamedTuple):
    """Something that the database is to hear of a run."""

    run: Run
    what: str
    query: str
    values: dict[str, object]
    pid: int | None = None  # a child, which must be dead before this is true

    @property
    def ready(self) -> bool:
        """Whether it is true by now."""
        return self.pid is None or _is_dead(self.pid)

    @property
    def keeps_lease(self) -> bool:
        """Whether it ends a run that took the attempt: which is not lost as long as this is not told."""
        return self.query in {"job_settle", "job_snooze", "job_postpone"}

    def say(self, session: Session) -> None:
        """Tell it; log it if it came too late.

        Raises:
            NotGuarded: It cannot be told.
        """
        values = {"job": self.run.job, "claim": self.run.claim, **self.values}
        try:
            told = session.alone(self.query, **values)
        except NotGuarded as error:
            if meant(error) is not Meaning.DATA or values.get("error") is None:
                raise
            # the database's encoding does not have all of its characters
            values["error"] = str(values["error"]).encode("ascii", "backslashreplace").decode()
            told = session.alone(self.query, **values)
        if told is False and self.query in {"job_settle", "job_postpone"}:
            _log.warning(
                "job.late: %s: given up meanwhile, since its lease ended or its worker's main process "
                "settled it: it may run again",
                self,
            )

    def __str__(self) -> str:
        return f"{self.run}: {self.what}"


def settled(run: Run, outcome: str, error: str | None = None) -> Word:
    """Return the word of a run that took the attempt and ended."""
    return Word(run, outcome, "job_settle", {"outcome": outcome, "error": error})


def held(run: Run, pause: float, *, redelivered: bool = False) -> Word:
    """Return the word of a run that ended while its attempt goes on.

    Args:
        run: The run.
        pause: Seconds until the next message of the attempt is due.
        redelivered: It is the same message again, not one under the next number.
    """
    what = "to be redelivered" if redelivered else f"replaced, in {pause:g} s"
    return Word(run, what, "job_snooze", {"pause": pause, "redelivered": redelivered})


def postponed(run: Run, message: str, pause: float, error: str | None = None) -> Word:
    """Return the word of a run whose task asked to be run again.

    Args:
        run: The run.
        message: By which, see :func:`pgreact.worker.retry.resumption`.
        pause: Seconds until then.
        error: Why.
    """
    values = {"retries": run.retries, "pause": pause, "resume": message, "error": error}
    return Word(run, f"to be run again in {pause:g} s", "job_postpone", values)


def given_up(run: Run, outcome: str, error: str, pid: int | None = None) -> Word:
    """Return the word of a message that will not run, or whose run was cut short by the end of a child."""
    return Word(
        run,
        outcome,
        "job_abandon",
        {"retries": run.retries, "worker": run.worker, "outcome": outcome, "error": stored(error)},
        pid,
    )


def described(error: BaseException, frames: int = _FRAMES) -> str:
    """Return an exception as ``pgreact.dead`` keeps it: what it says, and so many frames of where."""
    said = stored("".join(traceback.format_exception_only(error)).strip(), _ERROR // 2)
    trace = error.__traceback__
    if not frames or trace is None:
        return said
    # the first frame is the guard's
    tail = traceback.extract_tb(trace.tb_next or trace, limit=-frames)
    return stored(f"{said}\n{''.join(traceback.format_list(tail))}".rstrip())


def stored(text: str, size: int = _ERROR) -> str:
    """Return a text as PostgreSQL can store it, of so many bytes at most."""
    encoded = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    return encoded[:size].decode("utf-8", "ignore")


class Foreign(Exception):
    """A message of a job that another database published."""

    def __init__(self, run: Run, ours: str) -> None:
        """Take the run that is none of ours, and what our database is called."""
        super().__init__(f"{run}: it comes from database {run.database}, and this worker serves {ours}")
        self.database = run.database


class Jobs:
    """Runs of jobs of one database; shared by all threads of a process."""

    def __init__(self, dsn: str, patience: float = PATIENCE) -> None:
        """Remember where to connect; the first job does.

        Args:
            dsn: As libpq reads it; a pooler in transaction mode may stand between.
            patience: Seconds a message waits for a database that is away.
        """
        self._patience = patience
        self._sessions = Sessions(dsn)
        self._keeper = Keeper(self._sessions)
        self._taking = Trouble("job.untaken", "job.taken")
        self._database: str | None = None  # what it is called in messages; asked for when it matters
        _every.add(self)

    def start(self, run: Run) -> bool:
        """Take an attempt, and keep its lease from now on.

        Returns:
            Whether the task is to be run. If not, another message runs it or ran it, or PostgreSQL cannot be
            asked: then the attempt's lease ends, and it is published again. Both are logged.

        Raises:
            Foreign: The message is of a job of another database.
        """
        try:
            lease = patiently(lambda: self._ask(run), self._patience)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the task must not run
            self._taking.failed(
                error, f"{run}: cannot be taken, so it does not run; it comes again after its lease"
            )
            return False
        self._taking.over()
        if lease is None:
            self._refuse_foreign(run)
            _log.info(
                "job.dropped: %s: another message runs it or ran it, it expired, or the job was cancelled",
                run,
            )
            return False
        self._sessions.bound_by(lease)
        self._sessions.keep = max(self._sessions.keep, self._keeper.watch(run, lease))
        return True

    def end(self, word: Word) -> None:
        """Tell how a run ended; when that cannot be told at once, in the background."""
        if word.run.pid != os.getpid():
            return  # a process that the body forked came back here, too; the run is not over
        self._keeper.unwatch(word.run)
        try:
            with self._sessions.one() as session:
                word.say(session)
        except SoftTimeLimitExceeded:
            self._keeper.tell(word)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ended, and that must be told
            self._keeper.tell(word, error)
        except BaseException:
            self._keeper.tell(word)  # the process ends
            raise

    def leave(self, run: Run) -> None:
        """Stop keeping the lease of a run that somebody else tells of."""
        self._keeper.unwatch(run)

    def tell(self, word: Word) -> None:
        """Tell in the background; the first word about a run counts."""
        self._keeper.tell(word)

    def close(self) -> None:
        """Tell what is left, and hang up."""
        self._keeper.end(FAREWELL)
        self._sessions.close()

    def _refuse_foreign(self, run: Run) -> None:
        """Raise if a run that this database does not know is of another one; if in doubt, it is not."""
        if run.database is None:
            return
        if self._database is None:
            try:
                with self._sessions.one() as session:
                    self._database = str(session.alone("database_id"))
            except NotGuarded:
                return
        if run.database != self._database:
            raise Foreign(run, self._database)

    def _ask(self, run: Run) -> float | None:
        with self._sessions.one() as session:
            lease: float | None = session.alone(
                "job_start", job=run.job, claim=run.claim, retries=run.retries, worker=run.worker
            )
            return lease


_every: weakref.WeakSet[Jobs] = weakref.WeakSet()


def close_all(**_: object) -> None:
    """Tell what is left: this process ends."""
    for jobs in list(_every):
        jobs.close()


def _before_fork() -> None:
    for jobs in list(_every):
        jobs._keeper.pause()


def _after_fork_in_parent() -> None:
    for jobs in list(_every):
        jobs._keeper.go_on()


def _after_fork_in_child() -> None:
    for jobs in list(_every):
        jobs._sessions.forget()
        jobs._keeper = Keeper(jobs._sessions)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(close_all)


def _is_dead(pid: int) -> bool:
    """Whether a child of this process has ended, without taking its status from who waits for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except (AttributeError, ChildProcessError):
        return True
