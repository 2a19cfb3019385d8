"""A run, which is one message of a job in a worker, and the settlement that ends it.

The states of a run in a worker:

========== =========================================== ======================================================
state      entered when                                left when
========== =========================================== ======================================================
received   the message arrives                         ``Jobs.start`` returns: started or dropped
dropped    PostgreSQL refuses the start, or cannot be  never. If no other message runs the attempt, the
           reached                                     daemon publishes it again after the lease
started    PostgreSQL has recorded the start; the      the body ends; or its process dies, and then the main
           lease is renewed from now on                process abandons the attempt, or its lease expires
delayed    the body ended, but its settlement could    the settlement is sent, or the process ends and the
           not be sent; the lease is still renewed     attempt is lost when its lease expires
settled    PostgreSQL has executed a settlement        never
========== =========================================== ======================================================

The settlements, each made by the function of this name:

- ``settled``: the run ends its attempt with an outcome such as ``done`` or ``failed``.
- ``snoozed``: the attempt goes on by another message, of a task that replaces this one, or by the same
  message, which the broker redelivers.
- ``postponed``: the task asked for a retry of Celery's; the message waits in PostgreSQL.
- ``abandoned``: the message will never run, or its process died. It ends the attempt only if no other
  message has taken it.

A settlement names its attempt by job and claim, so one that is sent twice, or too late, changes nothing.
"""

import dataclasses
import logging
import os
import traceback
from typing import NamedTuple

from pgreact.errors import NotGuarded
from pgreact.postgres.errors import ErrorKind, ascii_escaped
from pgreact.quantities import format_duration
from pgreact.worker import counters
from pgreact.worker.session import Session, meant

_ERROR_SIZE = 8192  # bytes of an error's text
_FRAMES = 6  # of a traceback, the innermost

_log = logging.getLogger("pgreact.worker")


@dataclasses.dataclass(eq=False, slots=True)
class Run:
    """One message of a job in the process that runs it."""

    job: int
    claim: str  # the UUID of the attempt
    retries: int  # earlier messages of the attempt: Celery's own retries, and tasks that were replaced
    worker: str  # see worker_name()
    task_id: str = ""  # Celery's, for the log
    database: str | None = None  # that published the message, if the message says so
    pid: int = dataclasses.field(default_factory=os.getpid)
    publish_s: float = 0.0  # from the claim until the leader made the message

    def is_same_message(self, other: "Run") -> bool:
        """Return whether both are runs of the same message."""
        return (self.claim, self.retries) == (other.claim, other.retries)

    def __str__(self) -> str:
        return f"job {self.job}, task {self.task_id}"


def worker_name(hostname: str | None, pid: int | None) -> str:
    """Return the name of a worker's process in ``pgreact.in_progress``."""
    return f"{hostname or '-'} {pid or '-'}"[-200:]


class Settlement(NamedTuple):
    """A state change of an attempt, to be written to PostgreSQL."""

    run: Run
    outcome: str  # of the attempt, or what follows this run
    query: str
    values: dict[str, object]
    pid: int | None = None  # a child that must have ended before this is sent

    @property
    def ready(self) -> bool:
        """Whether it may be sent: the child that it waits for has ended."""
        return self.pid is None or has_ended(self.pid)

    @property
    def leased(self) -> tuple[Run, ...]:
        """The run, if that took the attempt: the lease is renewed until this is sent."""
        return (self.run,) if self.query in {"job_settle", "job_snooze", "job_postpone"} else ()

    def repeats(self, other: object) -> bool:
        """Return whether another settlement is of the same message: the first one counts."""
        return isinstance(other, Settlement) and self.run.is_same_message(other.run)

    def send(self, session: Session) -> None:
        """Write it to PostgreSQL; log if the attempt had ended before.

        Raises:
            NotGuarded: PostgreSQL cannot be reached, or refuses.
        """
        values = {"job": self.run.job, "claim": self.run.claim, **self.values}
        try:
            found = session.execute_pinned(self.query, **values)
        except NotGuarded as error:
            if meant(error) is not ErrorKind.DATA or values.get("error") is None:
                raise
            # the database's encoding lacks some of its characters
            values["error"] = ascii_escaped(str(values["error"]))
            found = session.execute_pinned(self.query, **values)
        if found is not False:
            counters.add(f"settled_{self.count_as}")
        elif self.query in {"job_settle", "job_postpone"}:
            _log.warning(
                "settlement.ignored: %s: the attempt had ended: its lease expired, or its worker's main "
                "process settled it; it may run again",
                self,
            )

    @property
    def count_as(self) -> str:
        """The outcome by which it is counted; see :data:`pgreact.worker.counters.OUTCOMES`."""
        return {"job_snooze": "snoozed", "job_postpone": "postponed"}.get(self.query, self.outcome)

    def __str__(self) -> str:
        return f"{self.run}: {self.outcome}"


def settled(run: Run, outcome: str, error: str | None = None) -> Settlement:
    """Return the settlement of a run that ends its attempt.

    Args:
        run: The run, which has started.
        outcome: As ``pgreact.settle`` takes it: ``done``, ``failed``, ``lost``, ``rejected`` or ``invalid``.
        error: What went wrong.
    """
    return Settlement(run, outcome, "job_settle", {"outcome": outcome, "error": error})


def snoozed(run: Run, pause: float, *, redelivered: bool = False) -> Settlement:
    """Return the settlement of a run that ended while its attempt goes on.

    Args:
        run: The run, which has started.
        pause: Seconds until the next message of the attempt is due.
        redelivered: The broker delivers the same message again, under the same number.
    """
    outcome = "to be redelivered" if redelivered else f"replaced, in {format_duration(pause)}"
    return Settlement(run, outcome, "job_snooze", {"pause": pause, "redelivered": redelivered})


def postponed(run: Run, message: str, pause: float, error: str | None = None) -> Settlement:
    """Return the settlement of a run whose task asked for a retry.

    Args:
        run: The run, which has started.
        message: The message of the retry, see :func:`pgreact.worker.retry.retry_message`.
        pause: Seconds until the retry is due.
        error: Why the task asked for it.
    """
    values = {"retries": run.retries, "pause": pause, "resume": message, "error": error}
    return Settlement(run, f"to be retried in {format_duration(pause)}", "job_postpone", values)


def abandoned(run: Run, outcome: str, error: str, pid: int | None = None) -> Settlement:
    """Return the settlement of a message that will not run, or whose process died while it ran.

    Args:
        run: The message; it need not have started.
        outcome: As ``pgreact.settle`` takes it.
        error: Why.
        pid: The child that ran it, which must have ended before this is sent.
    """
    values = {"retries": run.retries, "worker": run.worker, "outcome": outcome, "error": storable(error)}
    return Settlement(run, outcome, "job_abandon", values, pid)


def error_text(error: BaseException, frames: int = _FRAMES) -> str:
    """Return an exception as ``pgreact.dead`` stores it: its message, and frames of its traceback.

    Args:
        error: The exception, caught where the guard called the task.
        frames: How many, the innermost ones.
    """
    message = storable("".join(traceback.format_exception_only(error)).strip(), _ERROR_SIZE // 2)
    trace = error.__traceback__
    if not frames or trace is None:
        return message
    # the first frame is the guard's
    tail = traceback.extract_tb(trace.tb_next or trace, limit=-frames)
    return storable(f"{message}\n{''.join(traceback.format_list(tail))}".rstrip())


def storable(text: str, size: int = _ERROR_SIZE) -> str:
    """Return a text that PostgreSQL can store, cut to ``size`` bytes."""
    encoded = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    return encoded[:size].decode("utf-8", "ignore")


def has_ended(pid: int) -> bool:
    """Return whether a child of this process has ended; leave its exit status to the pool."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except (AttributeError, ChildProcessError):
        return True
