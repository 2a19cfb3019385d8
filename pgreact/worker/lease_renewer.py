"""One thread of a worker's process: renews the leases of its runs, tells what could not be told at once.

A lease is kept from the start of a run until its end is told. What is to be told is never dropped: it is
tried again, each word by its own pauses, until PostgreSQL has heard it or the process ends. A lease whose row
another transaction holds is tried again soon, and the others are renewed meanwhile.
"""

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING

from pgreact.postgres.errors import Meaning
from pgreact.worker.session import Sessions, meant
from pgreact.worker.trouble import Trouble

if TYPE_CHECKING:
    from pgreact.worker.jobs import Run, Word

SHARE = 3  # renewals in the time of a lease
SOON = 1.0  # seconds until a lease that could not be renewed is tried again, at most
UNTIL_DEAD = 10.0  # seconds a child that was told to end may live on before it is taken for dead
FORK = 1.0  # seconds a fork waits for a statement to end
_POLL = 0.01  # seconds between two looks at a dying child

_log = logging.getLogger("pgreact.worker")


@dataclasses.dataclass(eq=False, slots=True)
class _Untold:
    """A word that is to be told, and the failures to do so."""

    word: "Word"
    trouble: Trouble
    since: float
    due: float


class Keeper:
    """What a process owes the database beside its runs. Its thread lives while there is something to do."""

    def __init__(self, sessions: Sessions) -> None:
        """Do nothing yet."""
        self._sessions = sessions
        self._news = threading.Condition()  # its lock is reentrant: signal handlers tell things, too
        self._busy = threading.Lock()  # held while statements run
        self._forker: int | None = None  # the thread that holds it for a fork
        self._thread: threading.Thread | None = None
        self._runs: set[Run] = set()
        self._untold: list[_Untold] = []
        self._interval = 0.0
        self._all_at: float | None = None  # when all leases are due
        self._locked: set[Run] = set()  # of those that another transaction held the last time, and
        self._locked_at: float | None = None  # when they are tried again
        self._renewal = Trouble("job.unrenewed", "job.renewed")
        self._own = Trouble("job.unkept", "job.kept")

    def watch(self, run: "Run", lease: float) -> int:
        """Keep a lease from now on; return how many there are.

        Args:
            run: Whose.
            lease: Its length in seconds, as of now.
        """
        with self._news:
            self._runs.add(run)
            self._interval = lease / SHARE
            self._renew_by(time.monotonic() + self._interval)
            return len(self._runs)

    def unwatch(self, run: "Run") -> None:
        """Let a lease be."""
        # the thread is not woken: it finds nothing to renew when the time has come
        with self._news:
            self._runs.discard(run)

    def tell(self, word: "Word", refused: Exception | None = None) -> None:
        """Tell something as soon as possible, unless something else is to be told of the same run.

        Args:
            word: What. If it ends a run of this process, the run's lease is kept until it is told.
            refused: Why it could not be told the first time, if that was tried.
        """
        with self._news:
            if any(other.word.run.same_as(word.run) for other in self._untold):
                return
            now = time.monotonic()
            untold = _Untold(
                word, Trouble("job.untold", "job.told", "told after %d failures, %.1f s late"), now, now
            )
            if refused is not None:
                untold.due += untold.trouble.failed(refused, _late(word))
            self._untold.append(untold)
            if word.keeps_lease and self._interval:
                self._renew_by(now + self._interval)
            self._wake()

    def end(self, seconds: float) -> None:
        """Keep no lease any more, and tell what is left, here and now, within so many seconds."""
        with self._news:
            self._runs.clear()
        until = time.monotonic() + seconds
        if self._untold:
            _log.info(
                "job.farewell: this process ends when %d words are told, or in %g s",
                len(self._untold),
                seconds,
            )
        while (left := until - time.monotonic()) > 0:
            if self._busy.acquire(timeout=left):  # the thread is not in the middle of something
                try:
                    with self._news:
                        for untold in self._untold:
                            untold.due = time.monotonic()
                    self._tell_all()
                finally:
                    self._busy.release()
            if not self._untold:
                break
            time.sleep(min(0.1, left))
        for untold in self._untold:
            _log.warning(
                "job.unheard: %s: could not be told; its lease ends the attempt as lost", untold.word
            )

    def pause(self) -> None:
        """Keep still for a fork: the child would inherit a library's locks as they are."""
        if self._busy.acquire(timeout=FORK):
            self._forker = threading.get_ident()

    def go_on(self) -> None:
        """Go on after a fork."""
        if self._forker == threading.get_ident():
            self._forker = None
            self._busy.release()

    def _renew_by(self, due: float) -> None:
        if self._all_at is None or self._all_at > due:
            self._all_at = due
            self._wake()
        elif self._thread is None:
            self._wake()

    def _wake(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._news.notify()
            return
        thread = threading.Thread(target=self._keep, name="pgreact keeper", daemon=True)
        try:
            thread.start()
        except (
            RuntimeError
        ) as error:  # no more threads, or the interpreter ends: the next word tries it again
            self._thread = None
            self._own.failed(error, "no thread to renew leases and to tell how runs ended")
        else:
            self._thread = thread

    def _keep(self) -> None:
        while True:
            with self._news:
                moments = [
                    *(at for at in (self._all_at, self._locked_at) if at is not None),
                    *(untold.due for untold in self._untold),
                ]
                if not moments:
                    self._thread = None  # a process without threads forks more safely
                    return
                if (wait := min(moments) - time.monotonic()) > 0:
                    self._news.wait(wait)
                    continue
            try:
                with self._busy:
                    # both answer for their statements; this is for mistakes of ours, and of libraries
                    if _is_past(self._all_at) or _is_past(self._locked_at):
                        self._renew(everything=_is_past(self._all_at))
                    self._tell_all()
                self._own.over()
            except Exception as error:  # noqa: BLE001 - all leases of the process hang on this thread
                time.sleep(min(SOON, self._own.failed(error, "leases and ends of runs")))

    def _renew(self, *, everything: bool) -> None:
        began = time.monotonic()
        with self._news:
            kept = self._runs | {untold.word.run for untold in self._untold if untold.word.keeps_lease}
            runs = list(kept if everything else kept & self._locked)
            self._locked, self._locked_at = set(), None
            if everything:
                self._all_at = began + self._interval if kept else None
        if not runs:
            self._renewal.over()
            return
        about = f"{len(runs)} jobs that run here; tried again"
        try:
            with self._sessions.one() as session:
                lease, skipped = session.alone(
                    "job_renew", jobs=[run.job for run in runs], claims=[run.claim for run in runs]
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the leases run on
            soon = min(self._renewal.failed(error, about), SOON, self._interval)
            with self._news:
                self._locked = set(runs)
                self._locked_at = time.monotonic() + soon
            return
        if skipped:
            self._renewal.noted(
                "locked", f"{len(skipped)} of {about}: another transaction holds their rows: jobs {skipped}"
            )
        else:
            self._renewal.over()
        self._sessions.bound_by(lease)
        with self._news:
            self._interval = lease / SHARE
            if everything:
                self._all_at = began + self._interval
            if skipped:
                self._locked = {run for run in runs if run.job in skipped}
                self._locked_at = time.monotonic() + min(SOON, self._interval)

    def _tell_all(self) -> None:
        for untold in list(self._untold):
            now = time.monotonic()
            if untold.due > now:
                continue
            if not untold.word.ready and now - untold.since < UNTIL_DEAD:
                untold.due = now + _POLL
                continue
            if self._runs and (_is_past(self._all_at) or _is_past(self._locked_at)):
                return  # that is more urgent, and each of these may take a while
            try:
                with self._sessions.one() as session:
                    untold.word.say(session)
            except Exception as error:  # noqa: BLE001 - whatever it is, this word's or all words', it is told later
                untold.due = time.monotonic() + untold.trouble.failed(error, _late(untold.word))
                if meant(error) is Meaning.LOST:
                    with self._news:
                        for other in self._untold:
                            other.due = max(other.due, untold.due)
                    return
                continue
            untold.trouble.over(str(untold.word))
            with self._news:
                self._untold.remove(untold)


def _is_past(moment: float | None) -> bool:
    return moment is not None and moment <= time.monotonic()


def _late(word: "Word") -> str:
    return f"{word}: is told as soon as possible"
