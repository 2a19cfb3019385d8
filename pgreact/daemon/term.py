"""A leader's term, from election to the end: sweep, dispatch, follow the routes as they change."""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from pgreact import logs
from pgreact.broker.job_publisher import JobPublisher
from pgreact.broker.publisher import DEADLINE, Publisher
from pgreact.clock import Clock
from pgreact.daemon.status_writer import Scribe
from pgreact.dispatch.dispatcher import Dispatcher, Runner
from pgreact.dispatch.registration_monitor import Inquiry, Workers
from pgreact.dispatch.route import QUEUE_ROUTE, Route
from pgreact.dispatch.run_monitor import Lookout
from pgreact.postgres import advisory_lock
from pgreact.postgres.application_name import application_name
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, persist
from pgreact.queue.claim import QueueDispatch
from pgreact.queue.maintenance import Housekeeping
from pgreact.timetable.engine import Timetable
from pgreact.wakeup.gatekeeper import Gatekeeper
from pgreact.wakeup.leadership import Candidate
from pgreact.wakeup.listener import Deaf
from pgreact.wakeup.listener_supervisor import Hearing
from pgreact.wakeup.sweep import Sweeper

T = TypeVar("T")

RELOAD_PAUSE = 0.2  # seconds: anybody may claim that the routes changed, as often as they like
UNHEARD_PAUSE = 1.0  # seconds between two reads of the routes while no notification tells of a change
REPORT_PAUSE = 10.0  # seconds between two reports of foreign notifications
# The guard is held by a second session, so it is still held when only the first was ended; beyond a publish's
# deadline its holder has nothing in hand, whatever keeps it.
GUARD_TIMEOUT = DEADLINE + 1


_FLIGHT = re.compile(r"flight (\d{1,10}) (\S{1,255}) (started|done|failed|dropped)", re.ASCII)


class Ask(Protocol):
    """Runs a statement until it works; the owner of a term says when it is to give up."""

    def __call__(self, subject: str, attempt: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """Run it."""
        ...


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
        housekeeping: Housekeeping,
        clock: Clock,
        troubles: Troubles,
        hearing: Hearing,
        workers: Workers,
    ) -> None:
        self._inquiry = Inquiry(workers, dispatcher.runners, troubles)
        self._timetable = timetable
        self._housekeeping = housekeeping
        self._troubles = troubles
        self._work = work
        self._hearing = hearing
        self._muted = hearing.muted
        self._looks = looks
        self._claims = claims
        self._dispatcher = dispatcher
        self._sweeper = Sweeper(work)
        self._lookout = Lookout(looks, clock, dispatcher.runners, troubles["run monitor"])
        self._gatekeeper = Gatekeeper(
            candidate, looks, clock, self._sweep_soon, self._changed, troubles, hearing.muted
        )
        self.scribe = Scribe(work, clock, self._gatekeeper.gate, troubles)
        dispatcher.on_change = self._changed
        self._clock = clock
        self._wake = asyncio.Event()
        self._to_sweep: dict[int, tuple[Runner, str]] = {}
        self._reload = False
        self._reloaded_at = clock.monotonic()  # they were read just now
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
        """
        await persist(
            self._troubles["gates"],
            lambda: self._gatekeeper.take_over(self._dispatcher.runners.values(), "elected"),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.scribe.run(), name="scribe")
            group.create_task(self._gatekeeper.run(), name="gatekeeper")
            group.create_task(self._lookout.run(), name="lookout")
            group.create_task(self._keep_up(), name="sweeper")
            group.create_task(self._timetable.run(), name="timetable")
            group.create_task(self._housekeeping.run(), name="housekeeping")
            group.create_task(self._inquiry.run(), name="inquiry")
            for session in (self._work, self._looks, self._claims):
                group.create_task(session.watch(), name="watch")

    def hearing_changed(self) -> None:
        """Notifications are heard no longer, or again."""
        self._timetable.notified = self._hearing.muted is None
        self._timetable.poke()
        self._wake.set()

    def _changed(self, runner: Runner) -> None:
        self.scribe.note(runner)
        self._lookout.note(runner)

    def _sweep_soon(self, runner: Runner, reason: str) -> None:
        self._to_sweep[runner.route.id] = runner, reason
        self._wake.set()

    async def _keep_up(self) -> None:
        while True:
            await persist(self._troubles["routes"], self._keep_up_when_due)

    async def _keep_up_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_sweep()):
                await self._wake.wait()
        self._wake.clear()
        await self._follow_hearing()
        asked, self._to_sweep = self._to_sweep, {}
        for runner, reason in asked.values():
            await self._sweeper.sweep(runner, reason)
        swept = False
        for runner in list(self._dispatcher.runners.values()):
            if (due := self._sweeper.due(runner)) is not None and due <= 0:
                await self._sweeper.sweep(runner, "backstop")
                swept = True
        unheard = self._muted is not None
        if unheard and self._clock.monotonic() - self._reloaded_at >= UNHEARD_PAUSE:
            for runner in self._dispatcher.runners.values():
                if runner.route.gate == "open":  # its writers notify only
                    await self._sweeper.sweep(runner, "backstop")
            self._reload = True
        # a notification that was lost must not leave an old route in force for ever
        if self._reload or swept:
            await self._follow_routes()

    def _until_next_sweep(self) -> float | None:
        dues = [
            due
            for runner in self._dispatcher.runners.values()
            if (due := self._sweeper.due(runner)) is not None
        ]
        if self._muted is not None:
            dues.append(self._reloaded_at + UNHEARD_PAUSE - self._clock.monotonic())
        return max(0.0, min(dues)) if dues else None

    async def _follow_hearing(self) -> None:
        muted = self._hearing.muted
        if muted == self._muted:
            return
        await self._gatekeeper.mute(muted)
        self._muted = muted
        if muted is None:
            self._reload = True
            for runner in self._dispatcher.runners.values():
                self._to_sweep.setdefault(runner.route.id, (runner, "heard again"))

    async def _follow_routes(self) -> None:
        await asyncio.sleep(max(0.0, self._reloaded_at + RELOAD_PAUSE - self._clock.monotonic()))
        self._reload = False  # before the read: a change during it asks for another
        self._reloaded_at = self._clock.monotonic()
        try:
            routes = await load_routes(self._work, self._dispatcher.routes, self._troubles)
            if not self._hearing.works and any(
                route.gate != "closed" and route.name != QUEUE_ROUTE for route in routes.values()
            ):
                raise Deaf("a route's gate is no longer set closed, and LISTEN delivers nothing")
            self._dispatcher.reroute(routes)
            self._inquiry.poke()
            await self._gatekeeper.follow(self._dispatcher.runners)
        except Exception:
            self._reload = True
            raise

    def _reject(self, pid: int, payload: str) -> None:
        self._rejected += 1
        if self._clock.monotonic() < self._report_after:
            return
        logs.emit(logs.NotificationRejected(payload=payload[:60], backend_pid=pid, count=self._rejected))
        self._rejected = 0
        self._report_after = self._clock.monotonic() + REPORT_PAUSE


async def load_routes(session: Session, known: Mapping[int, Route], troubles: Troubles) -> dict[int, Route]:
    """Read ``pgreact.route``.

    Args:
        session: Any session of the daemon.
        known: The routes as they were: one that cannot be read now stays as it was, or is left out.
        troubles: Where it is reported.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused, for example since the schema is missing.
    """
    routes = {}
    for row in await session.fetch(query("routes")):
        trouble = troubles[f"route {row['name']}"]
        try:
            routes[row["id"]] = Route.from_row(dict(row))
        except Exception as error:  # noqa: BLE001 - its options are whatever JSON a user wrote
            trouble.failed(error)
            if row["id"] in known:
                routes[row["id"]] = known[row["id"]]
        else:
            trouble.over()
    return routes


def _signal_queue(dispatcher: Dispatcher) -> None:
    for runner in dispatcher.runners.values():
        if runner.route.name == QUEUE_ROUTE:
            runner.signal()


@contextlib.asynccontextmanager
async def term(
    dsn: str,
    publisher: Publisher,
    jobs: JobPublisher,
    workers: Workers,
    candidate: Candidate,
    clock: Clock,
    troubles: Troubles,
    hearing: Hearing,
    ask: Ask,
) -> AsyncIterator[Term]:
    """Begin a term; leaving it waits for the publish in hand, then lets go of the guard.

    Raises:
        SessionLost: The server cannot be reached.
        PgreactError: A statement was given up.
    """
    async with contextlib.AsyncExitStack() as stack:
        work = await Session.open(dsn, application_name("work"))
        stack.push_async_callback(work.close)
        # polls must not wait for a ready query that takes its time
        looks = await Session.open(dsn, application_name("looks"))
        stack.push_async_callback(looks.close)
        await ask("guard", lambda: advisory_lock.acquire(work, "guard", GUARD_TIMEOUT))
        # a claim must not wait for a ready query, nor a poll for a claim
        claims = await Session.open(dsn, application_name("claims"))
        stack.push_async_callback(claims.close)
        door = QueueDispatch(publisher, jobs, claims, clock, troubles)
        stack.callback(door.close)
        routes = await ask("routes", lambda: load_routes(work, {}, troubles))
        failing = await ask("route errors", lambda: work.fetch(query("route_errors")))
        errors = {row["route_id"]: row["error"] for row in failing}
        async with Dispatcher(door, candidate, clock, routes, errors) as dispatcher:
            door.signal = functools.partial(_signal_queue, dispatcher)
            timetable = Timetable(dsn, jobs, clock, troubles, notified=hearing.muted is None)
            housekeeping = Housekeeping(dsn, clock, troubles)
            current = Term(
                work,
                looks,
                claims,
                candidate,
                dispatcher,
                timetable,
                housekeeping,
                clock,
                troubles,
                hearing,
                workers,
            )
            yield current
        if not work.lost.done():
            with contextlib.suppress(Exception):  # for people to read; the next leader writes it anew
                await current.scribe.write()
