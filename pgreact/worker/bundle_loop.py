"""The run of a bundle in the process that runs it: begin some jobs, run them, settle them and begin the next.

A job of the bundle is in one of these places, and leaves each of them once:

========= ============================================= ======================================================
place     the job                                       leaves it when
========= ============================================= ======================================================
``rest``  has not begun                                 a statement begins it, or it is handed back
``begun`` PostgreSQL has recorded its start             its body begins, or it is handed back, with the word
                                                        that its body has not run
current   its body runs                                 the body ends
``ended`` its body ended well                           the statement that begins the next settles it
========= ============================================= ======================================================

A job that ends in another way is settled at once, as one with a message of its own. The others are handed
back if another task replaces it, which goes on in a message of its own, and if a row of the next jobs is held
by another transaction, which may be another run of this message: jobs of a bundle take one place of their
lane, so only one of them may run. The watch takes ``rest``, ``begun`` and ``ended`` away from a loop whose
current job lasts: nothing waits behind that.

The jobs begun together last about 20 ms, by what the last ones took, so nothing renews their leases. No body
begins later than a third of the lease: a database that is away may have held the loop up. What a process that
dies has begun is lost, and repeated; the main process hands back the rest.
"""

import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from celery.exceptions import SoftTimeLimitExceeded

from pgreact.worker import counters
from pgreact.worker.bundle import BundledJob, Pace
from pgreact.worker.bundle_settlements import (
    NOBODY,
    Ended,
    EndedJobs,
    HandedBack,
    is_locked,
    settle_and_start,
)
from pgreact.worker.jobs import Jobs
from pgreact.worker.lease_renewer import RENEWALS
from pgreact.worker.run import Run, Settlement, abandoned
from pgreact.worker.trouble import with_retries

SLOW = 0.05  # seconds after which the others no longer wait for the current job

_log = logging.getLogger("pgreact.worker")


class Item(NamedTuple):
    """A job that is about to run, with its arguments."""

    run: Run
    job: BundledJob
    args: list[Any]
    kwargs: dict[str, Any]


class BundleLoop:
    """Runs the jobs of a bundle. To the guard of its current job it is what :class:`Jobs` is to others."""

    def __init__(
        self,
        jobs: Jobs,
        todo: Sequence[BundledJob],
        worker: str,
        pace: Pace,
        read: Callable[[BundledJob], tuple[list[Any], dict[str, Any]]],
        clock: Callable[[], float] = time.monotonic,
        stopping: Callable[[], bool] = lambda: False,
        publish_s: float = 0.0,
    ) -> None:
        """Begin nothing yet.

        Args:
            jobs: The runs of this process.
            todo: The jobs of the message, in order.
            worker: The name of this process.
            pace: Of their task.
            read: Returns the arguments of a job.
            clock: Seconds.
            stopping: Whether this process is to end soon.
            publish_s: Seconds from the claim until the leader made the message.
        """
        self._jobs = jobs
        self._rest = deque(todo)
        self._worker = worker
        self._pace = pace
        self._read = read
        self._clock = clock
        self._stopping = stopping
        self._publish_s = publish_s
        self._pid = os.getpid()
        self._mutex = threading.Lock()  # held for the moves between places: no statement runs meanwhile
        self._begun: deque[Item] = deque()
        self._ended: list[Ended] = []
        self._current: Item | None = None
        self._leased: Run | None = None  # the current job's run, once the lease renewer has it
        self._since = 0.0  # when the current job left ``begun``
        self._body_began = 0.0
        self._settled = False  # the guard has told how the current job ended
        self._lease = 0.0
        self._run_before = 0.0  # no body of those in ``begun`` begins later

    def run(self, trace: Callable[["BundleLoop", Item], None]) -> None:
        """Run the jobs.

        Args:
            trace: Runs one by Celery's tracer; by the guard it calls :meth:`start` and :meth:`end`.
        """
        try:
            while self._begin_next():
                began, ran = self._clock(), 0
                while (item := self._take()) is not None:
                    trace(self, item)
                    if os.getpid() != self._pid:
                        return  # a process that the body forked; the bundle goes on in its parent
                    ran += 1
                if ran:
                    self._pace.ran(ran, self._clock() - began)
        except BaseException:
            if os.getpid() == self._pid:
                self._leave_all()
            raise

    # ---- what the guard of the current job calls -----------------------------------------------------------

    def start(self, _run: Run) -> bool:
        """Say that the current job has begun already."""
        self._body_began = self._clock()
        return True

    def end(self, settlement: Settlement) -> None:
        """Settle the current job: with others if it ended well, else at once."""
        run = settlement.run
        if run.pid != os.getpid():
            return  # a process that the body forked
        self._settled = True
        if settlement.outcome == "done":
            with self._mutex:
                self._ended.append(Ended(run, self._body_began or self._since, self._clock()))
        else:
            if settlement.query == "job_snooze":
                with self._mutex:
                    begun, rest, ended = self._empty()
                self._settle_later(ended)
                self._hand_back(begun, rest)
            self._jobs.end(settlement)

    def end_later(self, settlement: Settlement) -> None:
        """Settle an attempt in the background."""
        self._settled = True
        self._jobs.end_later(settlement)

    def leave(self, run: Run) -> None:
        """Leave the current job to the main process, which settles it."""
        self._settled = True
        self._jobs.leave(run)

    @property
    def settled(self) -> bool:
        """Whether the guard has told how the current job ended; not if it failed before its body."""
        return self._settled

    # ---- what the watch calls ------------------------------------------------------------------------------

    def hand_over(self) -> bool:
        """Leave nothing to this loop but its current job, if that lasts; return whether it does."""
        with self._mutex:
            current = self._current
            if current is None or self._leased is not None or self._clock() - self._since < SLOW:
                return False
            self._leased = current.run
            begun, rest, ended = self._empty()
            self._jobs.renewer.add(current.run, self._lease)
        _log.debug("bundle.split: %s lasts: %d jobs are handed back", current.run, len(begun) + len(rest))
        self._settle_later(ended)
        self._hand_back(begun, rest)
        return True

    # ---- the loop's own steps ------------------------------------------------------------------------------

    def _begin_next(self) -> bool:
        """Settle what ended, and begin the next jobs; return whether there was anything to do."""
        if self._stopping():
            with self._mutex:
                rest = self._empty_rest()
            self._hand_back((), rest)
        with self._mutex:
            ended, self._ended = self._ended, []
            wanted = [self._rest.popleft() for _ in range(min(self._pace.size, len(self._rest)))]
        if not ended and not wanted:
            return False
        try:
            items = self._prepare(wanted)
            wanted = []
            started, held = self._settle_and_start(ended, items) if ended or items else (set(), False)
            ended = []
        except BaseException:  # a soft time limit, or a bug: what this step has taken must not be forgotten
            self._settle_later(ended)
            self._hand_back((), wanted)
            raise
        with self._mutex:
            self._begun.extend(item for item in items if item.run.job in started)
        left = [item for item in items if item.run.job not in started]
        if held:
            with self._mutex:
                rest = self._empty_rest()
            # not in the name of this worker: what a statement has begun, unseen, ends with its lease
            self._hand_back((), [*(item.job for item in left), *rest])
        elif left:
            self._drop(left)
        return True

    def _prepare(self, wanted: Sequence[BundledJob]) -> list[Item]:
        """Read the arguments of jobs; abandon those whose arguments cannot be read."""
        items = []
        for job in wanted:
            run = Run(job.id, job.claim, 0, self._worker, job.task_id, None, self._pid)
            try:
                items.append(Item(run, job, *self._read(job)))
            except Exception as error:  # noqa: BLE001 - Celery's decoders raise what they like
                reason = f"its arguments cannot be read: {error}"
                self._jobs.end_later(abandoned(run, "invalid", reason))
        return items

    def _settle_and_start(self, ended: list[Ended], items: Sequence[Item]) -> tuple[set[int], bool]:
        """Settle jobs and begin others; return the ids that may run, and whether to hand back the rest."""
        following = [item.run for item in items]
        try:
            return self._execute(ended, following)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, what has ended must be settled
            self._settle_later(ended, error)
        ended.clear()
        if not following:
            return set(), False
        try:
            return with_retries(functools.partial(self._execute, (), following), self._jobs.timeout)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, no body may run
            return self._not_started(error, items)

    def _execute(self, ended: Sequence[Ended], following: Sequence[Run]) -> tuple[set[int], bool]:
        asked = self._clock()
        with self._jobs.pool.session() as session:
            lease, started, held = settle_and_start(
                session, ended, following, self._worker, asked, self._publish_s
            )
        if lease != self._lease:
            self._lease = lease
            self._jobs.pool.limit_by(lease)
        self._run_before = asked + lease / RENEWALS
        if following:
            self._jobs.start_trouble.recovered()
        if held:
            _log.info(
                "bundle.split: job %d or one of the %d after it is held by another run of their message, or "
                "by another transaction: they go back to the queue",
                following[0].job,
                len(following) - 1,
            )
        return started, held

    def _not_started(self, error: BaseException, items: Sequence[Item]) -> tuple[set[int], bool]:
        """Give up the bundle: the database cannot be asked. It may have begun the jobs nevertheless."""
        count, first = len(items) + len(self._rest), items[0].run.job
        self._jobs.start_trouble.failed(
            error, f"{count} jobs of a bundle from job {first}: cannot be started; they go back to the queue"
        )
        return set(), True

    def _take(self) -> Item | None:
        """End the current job, and return the next that has begun; ``None``: there is none."""
        with self._mutex:
            self._current = None
            if self._leased is not None:
                self._jobs.renewer.remove(self._leased)
                self._leased = None
            if not self._begun:
                return None
            now = self._clock()
            if now < self._run_before:
                self._since, self._body_began, self._settled = now, 0.0, False
                self._current = self._begun.popleft()
                return self._current
            late = list(self._begun)
            self._begun.clear()
        self._hand_back(late, ())
        return None

    def _leave_all(self) -> None:
        """Settle what ended, and hand back the others, before this process ends or the bundle fails."""
        with self._mutex:
            current, self._current = self._current, None
            if self._leased is not None:
                self._jobs.renewer.remove(self._leased)
                self._leased = None
            begun, rest, ended = self._empty()
        if current is not None and not self._settled:
            self._jobs.leave(current.run)
        self._settle_later(ended)
        self._hand_back(begun, rest)

    def _empty(self) -> tuple[list[Item], list[BundledJob], list[Ended]]:
        """Take everything but the current job; the mutex is held."""
        begun, ended = list(self._begun), self._ended
        self._begun.clear()
        self._ended = []
        return begun, self._empty_rest(), ended

    def _empty_rest(self) -> list[BundledJob]:
        rest = list(self._rest)
        self._rest.clear()
        return rest

    def _settle_later(self, ended: Sequence[Ended], error: Exception | None = None) -> None:
        if ended:
            first = None if error is not None and is_locked(error) else error
            self._jobs.renewer.send_later(EndedJobs(ended, self._clock), first, self._lease or None)

    def _hand_back(self, begun: Sequence[Item], rest: Sequence[BundledJob]) -> None:
        """Hand back jobs in the background; this worker vouches that no body of ``begun`` has run."""
        if begun:
            jobs = [(item.run.job, item.run.claim) for item in begun]
            self._jobs.renewer.send_later(HandedBack(jobs, self._worker))
        if rest:
            self._jobs.renewer.send_later(HandedBack([(job.id, job.claim) for job in rest], NOBODY))

    def _drop(self, items: Sequence[Item]) -> None:
        counters.add("messages_dropped", len(items))
        for item in items:
            _log.info(
                "message.dropped: %s: another message runs or ran it, it expired, or the job was cancelled",
                item.run,
            )
