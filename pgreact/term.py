"""A leader's term, from election to the end: sweep, dispatch, follow the routes as they change."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import asyncpg

from pgreact import logs
from pgreact.clock import Clock
from pgreact.database.session import Session, refusal
from pgreact.dispatch.dispatcher import Authority, Dispatcher
from pgreact.dispatch.publisher import DEADLINE, Publisher
from pgreact.dispatch.route import Route
from pgreact.identity import application_name
from pgreact.operate.scribe import Scribe
from pgreact.shipped import query
from pgreact.wakeup.sweep import Sweeper

RELOAD_PAUSE = 0.2  # seconds: anybody may claim that the routes changed, as often as they like
REPORT_PAUSE = 10.0  # seconds between two reports of foreign notifications
# The guard is held by a second session, so it is still held when only the first was ended; beyond a publish's
# deadline its holder has nothing in hand, whatever keeps it.
GUARD_PATIENCE = DEADLINE + 1


class Term:
    """What the leader does with a notification, and on its own."""

    def __init__(self, session: Session, dispatcher: Dispatcher, scribe: Scribe) -> None:
        self._session = session
        self._dispatcher = dispatcher
        self._scribe = scribe
        self._sweeper = Sweeper(session)
        self._wake = asyncio.Event()
        self._reload = False
        self._reloaded_at = -RELOAD_PAUSE
        self._rejected = 0
        self._report_after = 0.0

    @property
    def routes(self) -> int:
        """How many routes there are."""
        return len(self._dispatcher.runners)

    def receive(self, pid: int, payload: str) -> None:
        """Take note of a notification."""
        if payload == "routes":
            self._reload = True
            self._wake.set()
        elif not (payload.isascii() and payload.isdigit() and self._dispatcher.signal(int(payload[:10]))):
            self._reject(pid, payload)

    async def run(self) -> None:
        """Sweep all routes, then keep up with time and changes, for ever.

        Raises:
            SessionLost: A session is gone.
            PgreactError: The schema is missing, or this role may not use it.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scribe.run(), name="scribe")
            group.create_task(self._dispatcher.broken(), name="dispatcher")
            group.create_task(self._keep_up(), name="sweeper")

    async def _keep_up(self) -> None:
        for runner in list(self._dispatcher.runners.values()):
            await self._sweeper.sweep(runner, "elected")
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._until_next_sweep())
            self._wake.clear()
            swept = False
            for runner in list(self._dispatcher.runners.values()):
                if (due := self._sweeper.due(runner)) is not None and due <= 0:
                    await self._sweeper.sweep(runner, "backstop")
                    swept = True
            # a notification that was lost must not leave an old route in force for ever
            if self._reload or swept:
                await self._follow_routes()

    def _until_next_sweep(self) -> float | None:
        dues = [
            due
            for runner in self._dispatcher.runners.values()
            if (due := self._sweeper.due(runner)) is not None
        ]
        return max(0.0, min(dues)) if dues else None

    async def _follow_routes(self) -> None:
        await asyncio.sleep(max(0.0, self._reloaded_at + RELOAD_PAUSE - time.monotonic()))
        self._reload = False  # before the read: a change during it asks for another
        added = self._dispatcher.reroute(await load_routes(self._session))
        self._reloaded_at = time.monotonic()
        for runner in added:
            await self._sweeper.sweep(runner, "added")

    def _reject(self, pid: int, payload: str) -> None:
        self._rejected += 1
        if time.monotonic() < self._report_after:
            return
        logs.emit(logs.NotificationRejected(payload=payload[:60], backend_pid=pid, count=self._rejected))
        self._rejected = 0
        self._report_after = time.monotonic() + REPORT_PAUSE


async def load_routes(session: Session) -> dict[int, Route]:
    """Read ``pgreact.route``.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not read it.
    """
    try:
        return {row["id"]: Route.from_row(dict(row)) for row in await session.fetch(query("routes"))}
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot read pgreact.route") from None


@contextlib.asynccontextmanager
async def term(dsn: str, publisher: Publisher, authority: Authority, clock: Clock) -> AsyncIterator[Term]:
    """Begin a term; leaving it waits for the publish in hand, then lets go of the guard.

    Raises:
        SessionLost: The server cannot be reached.
        PgreactError: The schema is missing, or this role may not use it.
    """
    session = await Session.open(dsn, application_name("work"))
    try:
        await session.value(
            "select pgreact.lead('guard', make_interval(secs => $1))",
            GUARD_PATIENCE,
            timeout=GUARD_PATIENCE + 5,
        )
        scribe = Scribe(session, clock)

        async with Dispatcher(
            publisher, authority, clock, await load_routes(session), scribe.note
        ) as dispatcher:
            yield Term(session, dispatcher, scribe)
        if not session.lost.done():
            await scribe.write()
    finally:
        await session.close()
