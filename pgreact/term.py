"""A leader's term, from election to the end: sweep, dispatch, follow the routes as they change."""

import asyncio
import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import AsyncIterator

import asyncpg

from pgreact import logs
from pgreact.clock import Clock
from pgreact.database.lead import lead
from pgreact.database.session import Session, refusal
from pgreact.database.trouble import Troubles
from pgreact.dispatch.dispatcher import Dispatcher, Runner
from pgreact.dispatch.jobs import JobPublisher
from pgreact.dispatch.publisher import DEADLINE, Publisher
from pgreact.dispatch.route import Route
from pgreact.identity import application_name
from pgreact.operate.scribe import Scribe
from pgreact.queue.dispatch import QueueDispatch
from pgreact.settings import BUILT_IN
from pgreact.shipped import query
from pgreact.timetable.engine import Timetable
from pgreact.wakeup.gatekeeper import Gatekeeper
from pgreact.wakeup.leadership import Candidate
from pgreact.wakeup.listener import Deaf
from pgreact.wakeup.lookout import Lookout
from pgreact.wakeup.sweep import Sweeper

RELOAD_PAUSE = 0.2  # seconds: anybody may claim that the routes changed, as often as they like
DEAF_RELOAD = 5.0  # seconds between two reads of the routes when nothing tells of a change
REPORT_PAUSE = 10.0  # seconds between two reports of foreign notifications
# The guard is held by a second session, so it is still held when only the first was ended; beyond a publish's
# deadline its holder has nothing in hand, whatever keeps it.
GUARD_PATIENCE = DEADLINE + 1


_FLIGHT = re.compile(r"flight (\d{1,10}) (\S{1,255}) (started|done|failed|dropped)", re.ASCII)


class Term:
    """What the leader does with a notification, and on its own."""

    def __init__(
        self,
        work: Session,
        looks: Session,
        claims: Session,
        candidate: Candidate,
        dispatcher: Dispatcher,
        timetable: Timetable,
        clock: Clock,
        *,
        hears: bool,
    ) -> None:
        self._timetable = timetable
        self._work = work
        self._hears = hears
        self._looks = looks
        self._claims = claims
        self._dispatcher = dispatcher
        self._sweeper = Sweeper(work)
        self._lookout = Lookout(looks, clock, dispatcher.runners)
        self._gatekeeper = Gatekeeper(candidate, looks, clock, self._sweep_soon, self._changed)
        self.scribe = Scribe(work, clock, self._gatekeeper.gate)
        dispatcher.on_change = self._changed
        self._wake = asyncio.Event()
        self._to_sweep: dict[int, tuple[Runner, str]] = {}
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
        if payload.isascii() and payload.isdigit() and self._dispatcher.signal(int(payload[:10])):
            # counted once the publish has begun
            asyncio.get_running_loop().call_soon(self._gatekeeper.notified, int(payload[:10]))
        elif payload == "routes":
            self._reload = True
            self._wake.set()
        elif payload == "schedule":
            self._timetable.poke()
        elif (word := _FLIGHT.fullmatch(payload)) and (runner := self._dispatcher.runners.get(int(word[1]))):
            runner.told(word[2], word[3])
        else:
            self._reject(pid, payload)

    async def run(self) -> None:
        """Sweep all routes, then keep up with time and changes, for ever.

        Raises:
            SessionLost: A session is gone.
            PgreactError: The schema is missing, or this role may not use it.
        """
        await self._gatekeeper.take_over(self._dispatcher.runners.values(), "elected")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.scribe.run(), name="scribe")
            group.create_task(self._dispatcher.broken(), name="dispatcher")
            group.create_task(self._gatekeeper.run(), name="gatekeeper")
            group.create_task(self._lookout.run(), name="lookout")
            group.create_task(self._keep_up(), name="sweeper")
            group.create_task(self._timetable.run(), name="timetable")
            for session in (self._work, self._looks, self._claims):
                group.create_task(session.watch(), name="watch")

    def _changed(self, runner: Runner) -> None:
        self.scribe.note(runner)
        self._lookout.note(runner)

    def _sweep_soon(self, runner: Runner, reason: str) -> None:
        self._to_sweep[runner.route.id] = runner, reason
        self._wake.set()

    async def _keep_up(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._until_next_sweep())
            self._wake.clear()
            asked, self._to_sweep = self._to_sweep, {}
            for runner, reason in asked.values():
                await self._sweeper.sweep(runner, reason)
            swept = False
            for runner in list(self._dispatcher.runners.values()):
                if (due := self._sweeper.due(runner)) is not None and due <= 0:
                    await self._sweeper.sweep(runner, "backstop")
                    swept = True
            # a notification that was lost must not leave an old route in force for ever
            if self._reload or swept or not self._hears:
                await self._follow_routes()

    def _until_next_sweep(self) -> float | None:
        dues = [
            due
            for runner in self._dispatcher.runners.values()
            if (due := self._sweeper.due(runner)) is not None
        ]
        if not self._hears:
            dues.append(DEAF_RELOAD)
        return max(0.0, min(dues)) if dues else None

    async def _follow_routes(self) -> None:
        await asyncio.sleep(max(0.0, self._reloaded_at + RELOAD_PAUSE - time.monotonic()))
        self._reload = False  # before the read: a change during it asks for another
        routes = await load_routes(self._work, hears=self._hears)
        if not self._hears and any(route.gate != "closed" for route in routes.values()):
            raise Deaf("a route's gate is no longer set closed, and LISTEN delivers nothing")
        self._dispatcher.reroute(routes)
        self._reloaded_at = time.monotonic()
        await self._gatekeeper.follow(self._dispatcher.runners)

    def _reject(self, pid: int, payload: str) -> None:
        self._rejected += 1
        if time.monotonic() < self._report_after:
            return
        logs.emit(logs.NotificationRejected(payload=payload[:60], backend_pid=pid, count=self._rejected))
        self._rejected = 0
        self._report_after = time.monotonic() + REPORT_PAUSE


async def load_routes(session: Session, *, hears: bool) -> dict[int, Route]:
    """Read ``pgreact.route``.

    Args:
        session: Any session of the daemon.
        hears: Whether LISTEN works. Where it does not, the built-in queue is polled: its writers go by the
            height that the leader sets.

    Raises:
        SessionLost: The session is gone.
        PgreactError: The schema is missing, or this role may not read it.
    """
    try:
        routes = {row["id"]: Route.from_row(dict(row)) for row in await session.fetch(query("routes"))}
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot read pgreact.route") from None
    if not hears:
        for route in routes.values():
            if route.name == BUILT_IN:
                routes[route.id] = dataclasses.replace(route, gate="closed")
    return routes


def _signal_queue(dispatcher: Dispatcher) -> None:
    for runner in dispatcher.runners.values():
        if runner.route.name == BUILT_IN:
            runner.signal()


@contextlib.asynccontextmanager
async def term(
    dsn: str, publisher: Publisher, jobs: JobPublisher, candidate: Candidate, clock: Clock, *, hears: bool
) -> AsyncIterator[Term]:
    """Begin a term; leaving it waits for the publish in hand, then lets go of the guard.

    Raises:
        SessionLost: The server cannot be reached.
        PgreactError: The schema is missing, or this role may not use it.
    """
    async with contextlib.AsyncExitStack() as stack:
        work = await Session.open(dsn, application_name("work"))
        stack.push_async_callback(work.close)
        # polls must not wait for a ready query that takes its time
        looks = await Session.open(dsn, application_name("looks"))
        stack.push_async_callback(looks.close)
        await lead(work, "guard", GUARD_PATIENCE)
        # a claim must not wait for a ready query, nor a poll for a claim
        claims = await Session.open(dsn, application_name("claims"))
        stack.push_async_callback(claims.close)
        door = QueueDispatch(publisher, jobs, claims, clock)
        stack.callback(door.close)
        async with Dispatcher(door, candidate, clock, await load_routes(work, hears=hears)) as dispatcher:
            door.signal = functools.partial(_signal_queue, dispatcher)
            timetable = Timetable(dsn, jobs, clock, Troubles(clock), hears=hears)
            current = Term(work, looks, claims, candidate, dispatcher, timetable, clock, hears=hears)
            yield current
        if not work.lost.done():
            await current.scribe.write()
