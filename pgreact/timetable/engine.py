"""The engine: fires schedules while this process holds the timetable's advisory lock.

It has three tasks, each with a session of its own while this process leads:

- ``timetable``: takes the lock, then fires schedules of delivery ``queue``;
- ``messages``: fires those of delivery ``direct``, once one exists;
- ``history``: once an hour, deletes expired history and corrects plans that a wrong clock made.

Only cancellation ends it. An error costs no more than its cause: a statement is retried after a pause, a row
at fault is set aside (see ``backlog``), a lost session is opened again while the others go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import first
from pgreact.postgres import advisory_lock
from pgreact.postgres.application_name import application_name
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Trouble, Troubles, retry
from pgreact.timetable.backlog import Backlog
from pgreact.timetable.delivery import Delivery, DirectDelivery, Post, QueueDelivery
from pgreact.timetable.firing import fire_due
from pgreact.timetable.measures import TimetableMeasures
from pgreact.timetable.planner import AHEAD
from pgreact.timetable.replanning import replan_all

SLEEP_LIMIT = 20.0  # seconds: below the idle limit of a session; a step of the clock goes unnoticed as long
POLL_INTERVAL = 1.0  # seconds between two reads while no notification reports edits
PAUSE = 0.005  # seconds between two passes: any role may send notifications, at any rate
MAINTENANCE_INTERVAL = 3600.0  # seconds
MAINTENANCE_PAUSE = 0.05  # seconds between two small transactions that delete history
BACKOFF_BASE = 0.25
BACKOFF_CAP = 10.0
_SETTINGS = """
select set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
    set_config('lock_timeout', '4s', false), set_config('synchronous_commit', $1, false)
"""


class Timetable:
    """The engine of ``pgreact listen`` and ``celery beat -S pgreact``; one process fires at a time.

    Attributes:
        notified: Whether :meth:`poke` is called when schedules change.
        leads: Set while this process holds the timetable's lock, and fires.
    """

    def __init__(
        self,
        dsn: str,
        post: Post,
        clock: Clock,
        troubles: Troubles,
        *,
        notified: bool = True,
        measures: TimetableMeasures | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            dsn: Straight to the primary server.
            post: Sends the messages of direct delivery.
            clock: Measures waits, and the pauses after a failure.
            troubles: Where failures are reported.
            notified: As the attribute, which may be set at any time.
            measures: Earlier terms of this process counted here.
        """
        self._measures = measures or TimetableMeasures()
        self.notified = notified
        self.leads = asyncio.Event()
        self._stopped = False
        self._dsn = dsn
        self._clock = clock
        self._troubles = troubles
        self._queue = _Loop(QueueDelivery(), clock, troubles)
        self._direct = _Loop(DirectDelivery(post), clock, troubles)
        self._any_direct = asyncio.Event()  # a schedule of direct delivery exists
        self._clock_set_back = asyncio.Event()  # the database's clock was, by more than ``AHEAD``

    def poke(self) -> None:
        """Wake the engine: schedules may have changed."""
        for loop in (self._queue, self._direct):
            loop.poked.set()

    async def run(self) -> None:
        """Wait for the lock, then fire what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep("timetable", self._fire_jobs), name="queue")
            group.create_task(self._keep("messages", self._fire_messages), name="direct")
            group.create_task(self._maintain(), name="history")
            try:
                await asyncio.Event().wait()
            finally:
                self._stopped = True

    # ---- sessions --------------------------------------------------------------------------------------

    async def _keep(self, role: str, use: Callable[[Session, Trouble], Awaitable[None]]) -> None:
        """Open a session and use it; open another whenever it is lost, until cancelled."""
        trouble = self._troubles[f"session {role}"]
        while True:
            if role == "messages":
                # A session of its own: a broker that hangs must not hold up the queue's schedules.
                await self._any_direct.wait()
                await self.leads.wait()
            try:
                async with self._session(role) as session, asyncio.TaskGroup() as group:
                    watch = group.create_task(session.wait_until_lost(), name="watch")
                    await use(session, trouble)
                    watch.cancel()
            except Exception as error:
                if self._stopped:  # a task group hides a cancellation behind the errors of its tasks
                    raise asyncio.CancelledError from error
                await asyncio.sleep(trouble.failed(first(error)))

    @contextlib.asynccontextmanager
    async def _session(self, role: str) -> AsyncIterator[Session]:
        session = await Session.open(self._dsn, application_name(role), idle_timeout=advisory_lock.IDLE_LIMIT)
        try:
            # Cached query plans last as long as the session, and may date from an empty table. The commit of
            # direct delivery confirms messages that were sent, so it is flushed.
            await session.fetch(_SETTINGS, "on" if role == "messages" else "off")
            yield session
        finally:
            await session.close()

    async def _fire_jobs(self, session: Session, opening: Trouble) -> None:
        await self._take_over(session, opening)
        self.leads.set()
        try:
            while True:
                await self._fire_or_sleep(session, self._queue)
                opening.recovered()
        finally:
            self.leads.clear()
            self.poke()

    async def _fire_messages(self, session: Session, opening: Trouble) -> None:
        while self.leads.is_set():
            await self._fire_or_sleep(session, self._direct)
            opening.recovered()

    async def _take_over(self, session: Session, opening: Trouble) -> None:
        trouble = self._troubles["lock timetable"]
        began = self._clock.monotonic()
        if not await retry(trouble, lambda: advisory_lock.acquire(session, "timetable", 0.001)):
            logs.emit(logs.TimetableWaiting())
            opening.recovered()
            while not await retry(
                trouble, lambda: advisory_lock.acquire(session, "timetable", advisory_lock.TIMEOUT)
            ):
                pass
        logs.emit(logs.TimetableAcquired(waited_s=round(self._clock.monotonic() - began, 3)))

    # ---- firing ----------------------------------------------------------------------------------------

    async def _fire_or_sleep(self, session: Session, loop: "_Loop") -> None:
        """Make one pass if a schedule is new or due, else sleep until one is, or until :meth:`poke`."""
        if loop.poked.is_set():
            loop.poked.clear()
            loop.backlog.edited()
        wait, direct = await loop.backlog.wait(session)
        if direct:
            self._any_direct.set()
        if loop.backlog.set_back > AHEAD.total_seconds():
            loop.backlog.set_back = 0.0
            self._clock_set_back.set()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, SLEEP_LIMIT if self.notified else POLL_INTERVAL)):
                    await loop.poked.wait()
                await asyncio.sleep(PAUSE)
            return
        outcome = await fire_due(session, loop.delivery, loop.backlog, loop.trouble, self._measures)
        if outcome.failure:
            loop.failures += 1
            pause = self._clock.backoff(loop.failures, base=BACKOFF_BASE, cap=BACKOFF_CAP)
            if loop.failures == 1:
                logs.emit(logs.DeliveryFailed(reason=outcome.failure, retry_in_s=round(pause, 3)))
            await asyncio.sleep(pause)
        elif outcome.pause is not None:
            await asyncio.sleep(outcome.pause)
        else:
            if loop.failures:
                logs.emit(logs.DeliveryRecovered(failures=loop.failures))
                loop.failures = 0
            if not outcome.results:
                await asyncio.sleep(PAUSE)

    # ---- maintenance -----------------------------------------------------------------------------------

    async def _maintain(self) -> None:
        """Delete expired history and correct plans that a wrong clock made, in small transactions."""
        trouble = self._troubles["schedule history"]
        while True:
            await self.leads.wait()
            try:
                async with self._session("history") as session:
                    self._clock_set_back.clear()
                    await _delete_expired(session)
                    await replan_all(session, self._troubles)
            except Exception as error:
                if self._stopped:  # a task group hides a cancellation behind the errors of its tasks
                    raise asyncio.CancelledError from error
                await asyncio.sleep(trouble.failed(first(error)))
            else:
                trouble.recovered()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._clock_set_back.wait(), MAINTENANCE_INTERVAL)


class _Loop:
    """The state that one delivery keeps from session to session."""

    def __init__(self, delivery: Delivery, clock: Clock, troubles: Troubles) -> None:
        self.delivery = delivery
        self.backlog = Backlog(delivery.name, delivery.page, troubles, clock)
        self.trouble = troubles[f"fire ({delivery.name})"]
        self.poked = asyncio.Event()
        self.failures = 0  # of the broker, in a row


async def _delete_expired(session: Session) -> None:
    place: tuple[str, str | None] = "", None
    while rows := await session.fetch("select * from pgreact.maintain_schedule_history($1, $2)", *place):
        place = rows[0]["last_schedule"], rows[0]["last_fired_at"]
        await asyncio.sleep(MAINTENANCE_PAUSE)
