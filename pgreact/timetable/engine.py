"""Fires schedules for as long as it holds the timetable's lock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from pgreact import logs
from pgreact.clock import Clock
from pgreact.database.lead import IDLE_LIMIT, PATIENCE, lead
from pgreact.database.session import Session, refusal
from pgreact.identity import application_name
from pgreact.shipped import query
from pgreact.timetable.delivery import DirectDelivery, Post, QueueDelivery
from pgreact.timetable.round import play_round
from pgreact.timetable.step import Delivery

NAP = 15.0  # seconds it sleeps at most: below the idle limit, and as long a step of the clock goes unnoticed
DEAF_NAP = 1.0  # where no notification tells of an edit
PAUSE = 0.005  # seconds between two looks: anybody may claim that there is something new, at any rate
LOCKED_PAUSE = 0.1  # seconds until it looks again at schedules that somebody is editing
TEND_PAUSE = 3600.0  # seconds between two looks for history that nobody wants any more
TEND_TIMEOUT = 60.0
BACKOFF_BASE = 0.25
BACKOFF_CAP = 10.0


class Timetable:
    """The engine behind ``pgreact listen`` and ``celery beat -S pgreact``: one of them fires at a time."""

    def __init__(self, dsn: str, post: Post, clock: Clock, *, hears: bool = True) -> None:
        """Nothing is connected yet.

        Args:
            dsn: Straight to the primary server.
            post: Sends the messages of direct delivery.
            clock: For the pauses after a failure.
            hears: Whether :meth:`poke` will be called when schedules change.
        """
        self._dsn = dsn
        self._post = post
        self._clock = clock
        self.hears = hears
        self._pokes: list[asyncio.Event] = []
        self._direct = asyncio.Event()  # there are schedules of direct delivery

    def poke(self) -> None:
        """Take note that somebody says schedules changed."""
        for event in self._pokes:
            event.set()

    async def run(self) -> None:
        """Wait for the lock, then fire what is due, for ever.

        Raises:
            SessionLost: A session is gone.
            PgreactError: The schema is missing, or this role may not use it.
        """
        async with self._session("timetable") as session:
            await self._take_over(session)
            async with asyncio.TaskGroup() as group:
                group.create_task(session.watch(), name="watch")
                group.create_task(self._play(session, QueueDelivery()), name="queue")
                group.create_task(self._play_direct(), name="direct")
                group.create_task(_tend(session), name="history")

    @contextlib.asynccontextmanager
    async def _session(self, role: str) -> AsyncIterator[Session]:
        session = await Session.open(self._dsn, application_name(role), idle_limit=IDLE_LIMIT)
        try:
            # plans last as long as the session, and were made when there were no schedules yet
            await session.fetch(
                "select set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)"
            )
            yield session
        finally:
            await session.close()

    async def _take_over(self, session: Session) -> None:
        began = self._clock.monotonic()
        if not await _try_lock(session, 0.001):
            logs.emit(logs.TimetableWaiting())
            while not await _try_lock(session, PATIENCE):
                pass
        logs.emit(logs.TimetableTaken(waited_s=round(self._clock.monotonic() - began, 3)))

    async def _play_direct(self) -> None:
        # A broker that hangs must not hold up the queue's schedules; and most have no others.
        await self._direct.wait()
        async with self._session("messages") as session, asyncio.TaskGroup() as group:
            # what is committed is what was sent
            await session.fetch("set synchronous_commit = on")
            group.create_task(session.watch(), name="watch")
            group.create_task(self._play(session, DirectDelivery(self._post)), name="direct")

    async def _play(self, session: Session, delivery: Delivery) -> None:
        poked = asyncio.Event()
        self._pokes.append(poked)
        failures = 0
        while True:
            poked.clear()
            wait = await self._until_due(session, delivery)
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(poked.wait(), min(wait, NAP if self.hears else DEAF_NAP))
                    await asyncio.sleep(PAUSE)
                continue
            outcome = await play_round(session, delivery)
            if outcome.failure:
                failures += 1
                pause = self._clock.backoff(failures, base=BACKOFF_BASE, cap=BACKOFF_CAP)
                if failures == 1:
                    logs.emit(logs.TimetableBlocked(reason=outcome.failure, retry_in_s=round(pause, 3)))
                await asyncio.sleep(pause)
                continue
            if failures:
                logs.emit(logs.TimetableUnblocked(failures=failures))
                failures = 0
            if not outcome.moved:
                await asyncio.sleep(LOCKED_PAUSE)

    async def _until_due(self, session: Session, delivery: Delivery) -> float:
        """Return seconds until something is to be done; 0 or less: now."""
        try:
            (row,) = await session.fetch(query("timetable_next"), delivery.name)
        except asyncpg.PostgresError as error:
            raise refusal(error, "cannot read pgreact.schedule") from None
        if row["direct"]:
            self._direct.set()
        return float("inf") if row["wait"] is None else float(row["wait"])


async def _tend(session: Session) -> None:
    while True:
        try:
            await session.fetch("select pgreact.tend_schedule_history()", timeout=TEND_TIMEOUT)
        except asyncpg.PostgresError as error:
            raise refusal(error, "cannot tidy pgreact.schedule_history") from None
        await asyncio.sleep(TEND_PAUSE)


async def _try_lock(session: Session, patience: float) -> bool:
    try:
        return await lead(session, "timetable", patience)
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot wait for the timetable's lock") from None
