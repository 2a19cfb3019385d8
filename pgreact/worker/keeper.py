"""One thread of a worker's process: renews the leases of its runs, tells what could not be told at once."""

import logging
import threading
import time
from typing import TYPE_CHECKING

from pgreact.errors import PgreactError
from pgreact.worker.session import NotGuarded, Sessions

if TYPE_CHECKING:
    from pgreact.worker.jobs import Run, Word

SHARE = 3  # renewals in the time of a lease
ENOUGH = 600.0  # seconds after which a word is given up that nobody hears
UNTIL_DEAD = 10.0  # seconds a child that was told to end may live on before it is taken for dead
FORK = 1.0  # seconds a fork waits for a statement to end
_POLL = 0.01  # seconds between two looks at a dying child

_log = logging.getLogger("pgreact.worker")


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
        self._words: list[tuple[Word, float]] = []  # and since when
        self._interval = 0.0
        self._renew_at: float | None = None
        self._tell_at: float | None = None
        self._failures = 0

    def watch(self, run: "Run", lease: float) -> int:
        """Keep a lease from now on; return how many there are.

        Args:
            run: Whose.
            lease: Its length in seconds, as of now.
        """
        with self._news:
            self._runs.add(run)
            self._interval = lease / SHARE
            due = time.monotonic() + self._interval
            if self._renew_at is None or self._renew_at > due:
                self._renew_at = due
                self._wake()
            return len(self._runs)

    def unwatch(self, run: "Run") -> None:
        """Let a lease be."""
        # the thread is not woken: it finds nothing to renew when the time has come
        with self._news:
            self._runs.discard(run)

    def tell(self, word: "Word") -> None:
        """Tell something as soon as possible, unless something else is to be told of the same run."""
        with self._news:
            if any(other.run.same_as(word.run) for other, _ in self._words):
                return
            self._words.append((word, time.monotonic()))
            if self._tell_at is None:
                self._tell_at = time.monotonic()
                self._wake()

    def end(self, seconds: float) -> None:
        """Keep no lease any more, and tell what is left, here and now, within so many seconds."""
        with self._news:
            self._runs.clear()
        until = time.monotonic() + seconds
        if self._words:
            _log.info(
                "job.farewell: this process ends when %d words are told, or in %g s",
                len(self._words),
                seconds,
            )
        while (left := until - time.monotonic()) > 0:
            if self._busy.acquire(timeout=left):  # the thread is not in the middle of something
                try:
                    self._tell_all()
                finally:
                    self._busy.release()
            if not self._words:
                break
            time.sleep(min(0.1, left))
        for word, _ in self._words:
            _log.warning("job.unheard: %s: could not be told; its lease ends the attempt as lost", word)

    def pause(self) -> None:
        """Keep still for a fork: the child would inherit a library's locks as they are."""
        if self._busy.acquire(timeout=FORK):
            self._forker = threading.get_ident()

    def go_on(self) -> None:
        """Go on after a fork."""
        if self._forker == threading.get_ident():
            self._forker = None
            self._busy.release()

    def _wake(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._news.notify()
            return
        self._thread = threading.Thread(target=self._keep, name="pgreact keeper", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while True:
            with self._news:
                moments = [at for at in (self._renew_at, self._tell_at) if at is not None]
                if not moments:
                    self._thread = None  # a process without threads forks more safely
                    return
                if (wait := min(moments) - time.monotonic()) > 0:
                    self._news.wait(wait)
                    continue
            with self._busy:
                if self._tell_at is not None and self._tell_at <= time.monotonic():
                    self._tell_all()
                if self._renew_at is not None and self._renew_at <= time.monotonic():
                    self._renew()

    def _renew(self) -> None:
        with self._news:
            runs = list(self._runs)
            self._renew_at = time.monotonic() + self._interval if runs else None
        if not runs:
            return
        try:
            with self._sessions.one() as session:
                answer = session.first(
                    "job_renew", jobs=[run.job for run in runs], task_ids=[run.task_id for run in runs]
                )
        except PgreactError as error:
            _log.warning("job.unrenewed: %d jobs that run here; tried again: %s", len(runs), error)
            answer = {"lease_s": min(self._interval, 1.0) * SHARE, "skipped": []}
        with self._news:
            self._interval = answer["lease_s"] / SHARE
            # another transaction holds the rows of those that were skipped: try again soon
            pause = min(self._interval, 1.0) if answer["skipped"] else self._interval
            self._renew_at = time.monotonic() + pause

    def _tell_all(self) -> None:
        again: float | None = None
        for word, since in list(self._words):
            age = time.monotonic() - since
            if not word.ready and age < UNTIL_DEAD:
                again = _POLL
                continue
            try:
                with self._sessions.one() as session:
                    word.say(session)
                self._failures = 0
            except PgreactError as error:
                self._failures += 1
                again = min(0.1 * 2 ** min(self._failures, 5), 2.0)
                if not isinstance(error, NotGuarded) or age > ENOUGH:
                    _log.warning(
                        "job.unheard: %s: could not be told; its lease ends the attempt as lost: %s",
                        word,
                        error,
                    )
                else:
                    if self._failures == 1:
                        _log.warning("job.untold: %s: is told as soon as possible: %s", word, error)
                    break
            with self._news:
                self._words.remove((word, since))
        with self._news:
            if again is None and self._words:
                again = 0.0  # came meanwhile
            self._tell_at = None if again is None else time.monotonic() + again
