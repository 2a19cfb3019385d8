"""The background thread of a worker's process: renews the leases of its runs, and sends delayed settlements.

A lease is renewed from the start of a run until its settlement is sent. A settlement that cannot be sent is
never dropped: the thread tries again, with growing pauses for each, until PostgreSQL has executed it or the
process ends. If another transaction holds the row of an attempt, the thread renews the other leases, and soon
tries that one again.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from pgreact.postgres.errors import ErrorKind
from pgreact.quantities import format_duration
from pgreact.worker import counters
from pgreact.worker.run import Run
from pgreact.worker.session import Session, SessionPool, meant
from pgreact.worker.trouble import Trouble

RENEWALS = 3  # in the time of a lease
RETRY = 1.0  # seconds until a lease that could not be renewed is tried again, at most
CHILD_TIMEOUT = 10.0  # seconds after which a child that must end is taken for dead
FORK_TIMEOUT = 1.0  # seconds that a fork waits for a statement to end
_CHILD_POLL = 0.01  # seconds between two looks at a child that is to end

_log = logging.getLogger("pgreact.worker")


class Sendable(Protocol):
    """A settlement of one attempt, or of several."""

    @property
    def ready(self) -> bool:
        """Whether it may be sent."""
        ...

    @property
    def leased(self) -> Sequence[Run]:
        """The runs whose leases are renewed until it is sent."""
        ...

    def repeats(self, other: object) -> bool:
        """Return whether it does what another one does, which counts."""
        ...

    def send(self, session: Session) -> None:
        """Write it to PostgreSQL.

        Raises:
            NotGuarded: PostgreSQL cannot be reached, or refuses.
        """
        ...


@dataclasses.dataclass(eq=False, slots=True)
class _Delayed:
    """A settlement that could not be sent yet."""

    settlement: Sendable
    trouble: Trouble
    since: float
    due: float


class LeaseRenewer:
    """Renew leases and send delayed settlements, in a thread that lives while there is something to do."""

    def __init__(self, pool: SessionPool) -> None:
        """Start nothing yet."""
        self._pool = pool
        self._changed = threading.Condition()  # with a reentrant lock, since signal handlers come here, too
        self._busy = threading.Lock()  # held while statements run
        self._forking: int | None = None  # the thread that holds it for a fork
        self._thread: threading.Thread | None = None
        self._runs: set[Run] = set()
        self._delayed: list[_Delayed] = []
        self._interval = 0.0
        self._all_due: float | None = None  # when all leases are due
        self._locked: set[Run] = set()  # runs whose rows another transaction held at the last renewal
        self._locked_due: float | None = None  # when these are due
        self._renewal_trouble = Trouble("lease.renewal_failed", "lease.renewed")
        self._thread_trouble = Trouble("lease.renewer_failed", "lease.renewer_recovered")

    def add(self, run: Run, lease: float) -> int:
        """Renew the lease of a run from now on; return how many leases there are.

        Args:
            run: The run.
            lease: Its length in seconds, from now.
        """
        with self._changed:
            self._runs.add(run)
            self._interval = lease / RENEWALS
            self._renew_by(time.monotonic() + self._interval)
            return len(self._runs)

    def remove(self, run: Run) -> None:
        """Renew the lease of a run no longer."""
        # the thread sleeps on: it finds nothing to renew when the time has come
        with self._changed:
            self._runs.discard(run)

    def send_later(
        self, settlement: Sendable, error: Exception | None = None, lease: float | None = None
    ) -> None:
        """Send a settlement as soon as possible, unless one of the same message waits already.

        Args:
            settlement: If its run took the attempt, the lease is renewed until it is sent.
            error: Why it could not be sent the first time, if that was tried.
            lease: The length of its leases in seconds, if its runs were never added.
        """
        with self._changed:
            if any(settlement.repeats(other.settlement) for other in self._delayed):
                return
            if lease is not None:
                self._interval = lease / RENEWALS
            now = time.monotonic()
            trouble = Trouble("settlement.delayed", "settlement.sent", "after %d failures, %s late")
            delayed = _Delayed(settlement, trouble, now, now)
            if error is not None:
                counters.add("settlements_retried")
                delayed.due += trouble.failed(error, _subject(settlement))
            self._delayed.append(delayed)
            if settlement.leased and self._interval:
                self._renew_by(now + self._interval)
            self._wake()

    def stop(self, timeout: float) -> None:
        """Renew no lease any more, and send the delayed settlements in this thread.

        Args:
            timeout: Seconds. What is not sent by then is logged; the lease ends its attempt as lost.
        """
        with self._changed:
            self._runs.clear()
        deadline = time.monotonic() + timeout
        if self._delayed:
            _log.info(
                "shutdown.delayed: this process ends when %d settlements are sent, or in %s",
                len(self._delayed),
                format_duration(timeout),
            )
        while (left := deadline - time.monotonic()) > 0:
            if self._busy.acquire(timeout=left):  # the thread runs no statement
                try:
                    with self._changed:
                        for delayed in self._delayed:
                            delayed.due = time.monotonic()
                    self._send_delayed()
                finally:
                    self._busy.release()
            if not self._delayed:
                break
            time.sleep(min(0.1, left))
        for delayed in self._delayed:
            _log.warning(
                "settlement.failed: %s: not sent before the process ends; its lease ends the attempt as lost",
                delayed.settlement,
            )

    def pause(self) -> None:
        """Run no statement during a fork: the child would inherit the locks of a library as they are."""
        if self._busy.acquire(timeout=FORK_TIMEOUT):
            self._forking = threading.get_ident()

    def resume(self) -> None:
        """Run statements again after a fork."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._busy.release()

    def _renew_by(self, due: float) -> None:
        if self._all_due is None or self._all_due > due:
            self._all_due = due
            self._wake()
        elif self._thread is None:
            self._wake()

    def _wake(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._changed.notify()
            return
        thread = threading.Thread(target=self._work, name="pgreact lease renewer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # no more threads, or the interpreter ends; the next call tries again
            self._thread = None
            self._thread_trouble.failed(error, "no thread to renew leases and to send delayed settlements")
        else:
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._changed:
                times = [
                    *(due for due in (self._all_due, self._locked_due) if due is not None),
                    *(delayed.due for delayed in self._delayed),
                ]
                if not times:
                    self._thread = None  # a process without threads forks more safely
                    return
                if (wait := min(times) - time.monotonic()) > 0:
                    self._changed.wait(wait)
                    continue
            try:
                with self._busy:
                    # both handle the errors of their statements; this handles bugs, ours and of libraries
                    if _is_past(self._all_due) or _is_past(self._locked_due):
                        self._renew(everything=_is_past(self._all_due))
                    self._send_delayed()
                self._thread_trouble.recovered()
            except Exception as error:  # noqa: BLE001 - all leases of the process depend on this thread
                time.sleep(min(RETRY, self._thread_trouble.failed(error, "leases and settlements")))

    def _renew(self, *, everything: bool) -> None:
        """Renew all leases, or only those whose rows were locked at the last renewal."""
        began = time.monotonic()
        with self._changed:
            waiting = {run for delayed in self._delayed for run in delayed.settlement.leased}
            leased = self._runs | waiting
            runs = list(leased if everything else leased & self._locked)
            self._locked, self._locked_due = set(), None
            if everything:
                self._all_due = began + self._interval if leased else None
        if not runs:
            self._renewal_trouble.recovered()
            return
        subject = f"{len(runs)} jobs that run here; tried again"
        try:
            with self._pool.session() as session:
                lease, skipped = session.execute_pinned(
                    "job_renew", jobs=[run.job for run in runs], claims=[run.claim for run in runs]
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the leases must be renewed
            pause = min(self._renewal_trouble.failed(error, subject), RETRY, self._interval)
            with self._changed:
                self._locked = set(runs)
                self._locked_due = time.monotonic() + pause
            return
        counters.add("leases_renewed", len(runs) - len(skipped or ()))
        if skipped:
            self._renewal_trouble.report(
                "locked", f"{len(skipped)} of {subject}: another transaction holds their rows: jobs {skipped}"
            )
        else:
            self._renewal_trouble.recovered()
        self._pool.limit_by(lease)
        with self._changed:
            self._interval = lease / RENEWALS
            if everything:
                self._all_due = began + self._interval
            if skipped:
                self._locked = {run for run in runs if run.job in skipped}
                self._locked_due = time.monotonic() + min(RETRY, self._interval)

    def _send_delayed(self) -> None:
        """Send the settlements that are due, until leases are due or PostgreSQL is away."""
        for delayed in list(self._delayed):
            now = time.monotonic()
            if delayed.due > now:
                continue
            settlement = delayed.settlement
            if not settlement.ready and now - delayed.since < CHILD_TIMEOUT:
                delayed.due = now + _CHILD_POLL
                continue
            if self._runs and (_is_past(self._all_due) or _is_past(self._locked_due)):
                return  # renewals are more urgent, and each settlement may take a while
            try:
                with self._pool.session() as session:
                    settlement.send(session)
            except Exception as error:  # noqa: BLE001 - whatever it is, the settlement is sent later
                counters.add("settlements_retried")
                delayed.due = time.monotonic() + delayed.trouble.failed(error, _subject(settlement))
                if meant(error) is ErrorKind.LOST:
                    with self._changed:
                        for other in self._delayed:
                            other.due = max(other.due, delayed.due)
                    return
                continue
            delayed.trouble.recovered(str(settlement))
            with self._changed:
                self._delayed.remove(delayed)


def _is_past(due: float | None) -> bool:
    return due is not None and due <= time.monotonic()


def _subject(settlement: Sendable) -> str:
    return f"{settlement}: is sent as soon as possible"
