"""Fires schedules for as long as it holds the timetable's lock.

Nothing but cancellation ends it. An error costs as little as it can: of a statement, a pause before it is
tried again; of a row, that row (see ``backlog``); of a session, that session, which is opened again while the
other goes on.
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
from pgreact.postgres.trouble import Trouble, Troubles, persist
from pgreact.timetable.backlog import Backlog
from pgreact.timetable.delivery import DirectDelivery, Post, QueueDelivery
from pgreact.timetable.firing import play_round
from pgreact.timetable.planner import AHEAD
from pgreact.timetable.replanning import replan_all
from pgreact.timetable.step import Delivery

NAP = 15.0  # seconds it sleeps at most: below the idle limit, and as long a step of the clock goes unnoticed
DEAF_NAP = 1.0  # where no notification tells of an edit
PAUSE = 0.005  # seconds between two looks: anybody may claim that there is something new, at any rate
TEND_PAUSE = (
    3600.0  # seconds between two looks for history that nobody wants any more, and for plans gone wrong
)
TEND_BATCH_PAUSE = 0.05  # between two of the small transactions that remove it
BACKOFF_BASE = 0.25
BACKOFF_CAP = 10.0
_SETTINGS = """
select set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
    set_config('lock_timeout', '4s', false), set_config('synchronous_commit', $1, false)
"""


class Timetable:
    """The engine behind ``pgreact listen`` and ``celery beat -S pgreact``: one of them fires at a time."""

    def __init__(self, dsn: str, post: Post, clock: Clock, troubles: Troubles, *, hears: bool = True) -> None:
        """Nothing is connected yet.

        Args:
            dsn: Straight to the primary server.
            post: Sends the messages of direct delivery.
            clock: Measures, and for the pauses after a failure.
            troubles: Where failures are reported.
            hears: Whether :meth:`poke` will be called when schedules change; may be set at any time.
        """
        self.hears = hears
        self.leads = asyncio.Event()  # this process holds the timetable's lock, and fires
        self._stopped = False
        self._dsn = dsn
        self._clock = clock
        self._troubles = troubles
        self._queue = _Loop(QueueDelivery(), clock, troubles)
        self._direct = _Loop(DirectDelivery(post), clock, troubles)
        self._any_direct = asyncio.Event()  # there are schedules of direct delivery
        self._put_back = asyncio.Event()  # the database's clock was, by far

    def poke(self) -> None:
        """Take note that schedules may have changed."""
        for loop in (self._queue, self._direct):
            loop.poked.set()

    async def run(self) -> None:
        """Wait for the lock, then fire what is due, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep("timetable", self._fire_jobs), name="queue")
            group.create_task(self._keep("messages", self._fire_messages), name="direct")
            group.create_task(self._tend(), name="history")
            try:
                await asyncio.Event().wait()
            finally:
                self._stopped = True

    # ---- sessions --------------------------------------------------------------------------------------

    async def _keep(self, role: str, use: Callable[[Session, Trouble], Awaitable[None]]) -> None:
        """Do something with a session of its own, which is opened again whenever it is lost, for ever."""
        trouble = self._troubles[f"session {role}"]
        while True:
            if role == "messages":
                # A broker that hangs must not hold up the queue's schedules; and most have no others.
                await self._any_direct.wait()
                await self.leads.wait()
            try:
                async with self._session(role) as session, asyncio.TaskGroup() as group:
                    watch = group.create_task(session.watch(), name="watch")
                    await use(session, trouble)
                    watch.cancel()
            except Exception as error:
                if self._stopped:  # a task group hides a cancellation behind the errors of its own tasks
                    raise asyncio.CancelledError from error
                await asyncio.sleep(trouble.failed(first(error)))

    @contextlib.asynccontextmanager
    async def _session(self, role: str) -> AsyncIterator[Session]:
        session = await Session.open(self._dsn, application_name(role), idle_limit=advisory_lock.IDLE_LIMIT)
        try:
            # Plans last as long as the session, and were made when there were no schedules yet. What is
            # committed of messages is what was sent.
            await session.fetch(_SETTINGS, "on" if role == "messages" else "off")
            yield session
        finally:
            await session.close()

    async def _fire_jobs(self, session: Session, opening: Trouble) -> None:
        await self._take_over(session, opening)
        self.leads.set()
        try:
            while True:
                await self._play(session, self._queue)
                opening.over()
        finally:
            self.leads.clear()
            self.poke()

    async def _fire_messages(self, session: Session, opening: Trouble) -> None:
        while self.leads.is_set():
            await self._play(session, self._direct)
            opening.over()

    async def _take_over(self, session: Session, opening: Trouble) -> None:
        trouble = self._troubles["lock timetable"]
        began = self._clock.monotonic()
        if not await persist(trouble, lambda: advisory_lock.acquire(session, "timetable", 0.001)):
            logs.emit(logs.TimetableWaiting())
            opening.over()
            while not await persist(
                trouble, lambda: advisory_lock.acquire(session, "timetable", advisory_lock.TIMEOUT)
            ):
                pass
        logs.emit(logs.TimetableAcquired(waited_s=round(self._clock.monotonic() - began, 3)))

    # ---- firing ----------------------------------------------------------------------------------------

    async def _play(self, session: Session, loop: "_Loop") -> None:
        """Fire what is due, or sleep until something is."""
        if loop.poked.is_set():
            loop.poked.clear()
            loop.backlog.edited()
        wait, direct = await loop.backlog.wait(session)
        if direct:
            self._any_direct.set()
        if loop.backlog.put_back > AHEAD.total_seconds():
            loop.backlog.put_back = 0.0
            self._put_back.set()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, NAP if self.hears else DEAF_NAP)):
                    await loop.poked.wait()
                await asyncio.sleep(PAUSE)
            return
        outcome = await play_round(session, loop.delivery, loop.backlog, loop.firing)
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
            if not outcome.moved:
                await asyncio.sleep(PAUSE)

    # ---- upkeep ----------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Plan anew what a wrong clock planned, and remove history that nobody wants any more.

        It does so bit by bit, in a session that fires nothing.
        """
        trouble = self._troubles["schedule history"]
        while True:
            await self.leads.wait()
            try:
                async with self._session("history") as session:
                    self._put_back.clear()
                    await _tidy(session)
                    await replan_all(session, self._troubles)
            except Exception as error:
                if self._stopped:  # a task group hides a cancellation behind the errors of its own tasks
                    raise asyncio.CancelledError from error
                await asyncio.sleep(trouble.failed(first(error)))
            else:
                trouble.over()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._put_back.wait(), TEND_PAUSE)


class _Loop:
    """What one delivery does again and again, whatever session it has at the moment."""

    def __init__(self, delivery: Delivery, clock: Clock, troubles: Troubles) -> None:
        self.delivery = delivery
        self.backlog = Backlog(delivery.name, delivery.look, troubles, clock)
        self.firing = troubles[f"fire ({delivery.name})"]
        self.poked = asyncio.Event()
        self.failures = 0  # of the broker, in a row


async def _tidy(session: Session) -> None:
    place: tuple[str, str | None] = "", None
    while rows := await session.fetch("select * from pgreact.maintain_schedule_history($1, $2)", *place):
        place = rows[0]["last_schedule"], rows[0]["last_fired_at"]
        await asyncio.sleep(TEND_BATCH_PAUSE)
