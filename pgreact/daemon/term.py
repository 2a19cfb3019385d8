"""A leader's term, from its election to its end: sweep, dispatch, and follow changes of the routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from pgreact import logs
from pgreact.broker.job_publisher import JobPublisher
from pgreact.broker.publisher import DEADLINE, CeleryPublisher
from pgreact.clock import Clock
from pgreact.daemon.event_writer import EventWriter
from pgreact.daemon.state import DaemonState, RouteReading
from pgreact.daemon.status_writer import StatusWriter
from pgreact.dispatch.action import Action, task_call
from pgreact.dispatch.dispatcher import Dispatcher, Runner
from pgreact.dispatch.registration_monitor import RegistrationMonitor, Workers
from pgreact.dispatch.route import QUEUE_ROUTE, Route
from pgreact.dispatch.run_monitor import RunMonitor
from pgreact.postgres import advisory_lock
from pgreact.postgres.application_name import application_name
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry
from pgreact.queue.canary import Canary
from pgreact.queue.claim import QueueDispatch
from pgreact.queue.maintenance import Maintenance
from pgreact.queue.roll_up import RollUp
from pgreact.timetable.engine import Timetable
from pgreact.wakeup import notification
from pgreact.wakeup.gatekeeper import Gatekeeper
from pgreact.wakeup.leadership import Candidate
from pgreact.wakeup.listener import NotDelivered
from pgreact.wakeup.listener_supervisor import ListenerSupervisor
from pgreact.wakeup.notification import CanaryChanged, RoutesChanged, RunChanged, SchedulesChanged, Signal
from pgreact.wakeup.sweep import Sweeper

T = TypeVar("T")

RELOAD_PAUSE = 0.2  # seconds: any role may notify that the routes changed, at any rate
SUSPENDED_PAUSE = 1.0  # seconds between two reads of the routes while notifications are suspended
REPORT_PAUSE = 10.0  # seconds between two reports of foreign notifications
# The guard is held by a second session, so it is still held when only the first was ended. Its holder has
# nothing in hand beyond a publish's deadline.
GUARD_TIMEOUT = DEADLINE + 1
GOODBYE_TIMEOUT = 1.0  # seconds for what a leader writes at the end of its term


class Ask(Protocol):
    """Runs a statement until it works, or gives it up."""

    def __call__(self, subject: str, attempt: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """Return the result.

        Args:
            subject: What is asked, for errors.
            attempt: Runs the statement.
        """
        ...


class Term:
    """One leader's term: handles notifications, and runs all that the leader does by time."""

    def __init__(
        self,
        work: Session,
        polls: Session,
        claims: Session,
        candidate: Candidate,
        dispatcher: Dispatcher,
        timetable: Timetable,
        housekeeping: Maintenance,
        clock: Clock,
        troubles: Troubles,
        supervisor: ListenerSupervisor,
        workers: Workers,
    ) -> None:
        self._registration_monitor = RegistrationMonitor(workers, dispatcher.runners, troubles)
        self._timetable = timetable
        self._housekeeping = housekeeping
        self._troubles = troubles
        self._work = work
        self._supervisor = supervisor
        self._suspended = supervisor.suspended
        self._polls = polls
        self._claims = claims
        self._dispatcher = dispatcher
        self._sweeper = Sweeper(work)
        self._run_monitor = RunMonitor(polls, clock, dispatcher.runners, troubles["run monitor"])
        self._gatekeeper = Gatekeeper(
            candidate, polls, clock, self._sweep_soon, self._flight_changed, troubles, supervisor.suspended
        )
        self.events = EventWriter(work, clock, troubles)
        self.status_writer = StatusWriter(
            work, clock, self._gatekeeper.gate, self.events.gate_changed, troubles
        )
        self._roll_up = RollUp(work, clock, troubles)
        self._canary = Canary(work, troubles)
        dispatcher.on_change = self._flight_changed
        self._clock = clock
        self._wake = asyncio.Event()
        self._to_sweep: dict[int, tuple[Runner, str]] = {}
        self._reload = False
        self._reloaded_at = clock.monotonic()  # they were read just now
        self._rejected = 0
        self._report_after = 0.0

    @property
    def routes(self) -> int:
        """The number of routes."""
        return len(self._dispatcher.runners)

    def read_routes(self) -> list[RouteReading]:
        """Return the state of each route at this moment."""
        now = self._clock.monotonic()
        readings = []
        for route_id, runner in self._dispatcher.runners.items():
            pending, gate = runner.flight.pending, self._gatekeeper.gate(route_id)
            dirty_s = now - pending.since if pending else 0.0
            closed = gate is not None and gate.mode == "polling"
            readings.append(RouteReading(runner.route.name, runner.measures, dirty_s, closed))
        return readings

    async def take_leave(self, dsn: str) -> None:
        """Write that this daemon resigns, and the last status; both are for people.

        Args:
            dsn: The database, for another session: a stop amid a statement has cost the one for them.
        """
        session, lost = self._work, self._work.lost.done()
        if lost:
            session = await Session.open(dsn, application_name("work"))
        try:
            self.events.resigned()
            await self.events.write(session)
            await self.status_writer.write(session)
            await self.events.write(session)  # of gates, which the status tells
        finally:
            if lost:
                await session.close()

    def receive(self, pid: int, payload: str) -> None:
        """Take note of a notification.

        Args:
            pid: The sender's process id.
            payload: Its text, which may be anything.
        """
        match notification.parse(payload):
            case Signal(route_id, traceparent) if self._dispatcher.signal(route_id, traceparent):
                # counted once the publish has begun
                asyncio.get_running_loop().call_soon(self._gatekeeper.notified, route_id)
            case RunChanged(route_id, task_id, state) if runner := self._dispatcher.runners.get(route_id):
                runner.run_changed(task_id, state)
            case RoutesChanged():
                self._reload = True
                self._wake.set()
            case SchedulesChanged():
                self._timetable.poke()
            case CanaryChanged():
                self._canary.changed()
            case _:
                self._reject(pid, payload)

    async def run(self) -> None:
        """Sweep all routes, then keep up with time and changes, for ever.

        Raises:
            SessionLost: A session is gone.
        """
        await retry(
            self._troubles["gates"],
            lambda: self._gatekeeper.take_over(self._dispatcher.runners.values(), "elected"),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.status_writer.run(), name="status writer")
            group.create_task(self.events.run(), name="event writer")
            group.create_task(self._roll_up.run(), name="roll-up")
            group.create_task(self._canary.run(), name="canary")
            group.create_task(self._gatekeeper.run(), name="gatekeeper")
            group.create_task(self._run_monitor.run(), name="run monitor")
            group.create_task(self._keep_up(), name="sweeper")
            group.create_task(self._timetable.run(), name="timetable")
            group.create_task(self._housekeeping.run(), name="housekeeping")
            group.create_task(self._registration_monitor.run(), name="registration monitor")
            for session in (self._work, self._polls, self._claims):
                group.create_task(session.wait_until_lost(), name="watch")

    def notifications_changed(self) -> None:
        """Notifications were suspended or resumed."""
        self._timetable.notified = self._supervisor.suspended is None
        self._timetable.poke()
        self._wake.set()

    def _flight_changed(self, runner: Runner) -> None:
        self.status_writer.flight_changed(runner)
        self._run_monitor.flight_changed(runner)
        if runner.route.name == QUEUE_ROUTE:
            self._roll_up.changed()

    def _sweep_soon(self, runner: Runner, reason: str) -> None:
        self._to_sweep[runner.route.id] = runner, reason
        self._wake.set()

    async def _keep_up(self) -> None:
        while True:
            await retry(self._troubles["routes"], self._keep_up_when_due)

    async def _keep_up_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_sweep()):
                await self._wake.wait()
        self._wake.clear()
        await self._follow_supervisor()
        requested, self._to_sweep = self._to_sweep, {}
        for runner, reason in requested.values():
            await self._sweeper.sweep(runner, reason)
        swept = False
        for runner in list(self._dispatcher.runners.values()):
            if (due := self._sweeper.due(runner)) is not None and due <= 0:
                await self._sweeper.sweep(runner, "backstop")
                swept = True
        suspended = self._suspended is not None
        if suspended and self._clock.monotonic() - self._reloaded_at >= SUSPENDED_PAUSE:
            for runner in self._dispatcher.runners.values():
                if runner.route.gate == "open":  # its writers notify only
                    await self._sweeper.sweep(runner, "backstop")
            self._reload = True
        # after a sweep, too: a lost notification must not leave an old route in force for ever
        if self._reload or swept:
            await self._follow_routes()

    def _until_next_sweep(self) -> float | None:
        dues = [
            due
            for runner in self._dispatcher.runners.values()
            if (due := self._sweeper.due(runner)) is not None
        ]
        if self._suspended is not None:
            dues.append(self._reloaded_at + SUSPENDED_PAUSE - self._clock.monotonic())
        return max(0.0, min(dues)) if dues else None

    async def _follow_supervisor(self) -> None:
        suspended = self._supervisor.suspended
        if suspended == self._suspended:
            return
        await self._gatekeeper.suspend(suspended)
        self._suspended = suspended
        if suspended is None:
            self._reload = True
            for runner in self._dispatcher.runners.values():
                self._to_sweep.setdefault(runner.route.id, (runner, "resumed"))

    async def _follow_routes(self) -> None:
        await asyncio.sleep(max(0.0, self._reloaded_at + RELOAD_PAUSE - self._clock.monotonic()))
        self._reload = False  # before the read: a change during it asks for another
        self._reloaded_at = self._clock.monotonic()
        try:
            routes = await load_routes(self._work, self._dispatcher.routes, self._troubles)
            if not self._supervisor.delivers and any(
                route.gate != "closed" and route.name != QUEUE_ROUTE for route in routes.values()
            ):
                raise NotDelivered("a route's gate is no longer set closed, and LISTEN delivers nothing")
            self._dispatcher.reroute(routes)
            self._registration_monitor.routes_changed()
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
        known: The routes in force: one that cannot be read stays as it is there, or is left out.
        troubles: Gets what cannot be read.

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
            trouble.recovered()
    return routes


@contextlib.asynccontextmanager
async def term(
    dsn: str,
    publisher: CeleryPublisher,
    jobs: JobPublisher,
    workers: Workers,
    candidate: Candidate,
    clock: Clock,
    troubles: Troubles,
    supervisor: ListenerSupervisor,
    ask: Ask,
    state: DaemonState,
) -> AsyncIterator[Term]:
    """Begin a term. Leaving it waits for the publishes in hand, then releases the guard.

    Args:
        dsn: The database.
        publisher: Of the calls of routes.
        jobs: Of jobs and schedules.
        workers: The application's workers.
        candidate: The session that holds the leadership.
        clock: Measures.
        troubles: Gets what fails.
        supervisor: Of the listener.
        ask: Runs the statements without which no term begins.
        state: Of the daemon, whose terms count on.

    Raises:
        SessionLost: The server cannot be reached.
        PgreactError: A statement was given up.
    """
    async with contextlib.AsyncExitStack() as stack:
        work = await Session.open(dsn, application_name("work"))
        stack.push_async_callback(work.close)
        # a poll must not wait for a slow ready query
        polls = await Session.open(dsn, application_name("polls"))
        stack.push_async_callback(polls.close)
        await ask("guard", lambda: advisory_lock.acquire(work, "guard", GUARD_TIMEOUT))
        # a claim must not wait for a ready query, nor a poll for a claim
        claims = await Session.open(dsn, application_name("claims"))
        stack.push_async_callback(claims.close)
        routes = await ask("routes", lambda: load_routes(work, {}, troubles))
        failing = await ask("route errors", lambda: work.fetch(query("route_errors")))
        errors = {row["route_id"]: row["error"] for row in failing}
        claim = QueueDispatch(jobs, claims, clock, troubles, state.queue)

        def action(route: Route) -> Action:
            return claim if route.name == QUEUE_ROUTE else task_call(route, publisher)

        current: Term | None = None
        try:
            async with Dispatcher(
                action, candidate, clock, routes, errors, state.route_measures
            ) as dispatcher:
                timetable = Timetable(
                    dsn,
                    jobs,
                    clock,
                    troubles,
                    notified=supervisor.suspended is None,
                    measures=state.timetable,
                )
                housekeeping = Maintenance(dsn, clock, troubles)
                current = Term(
                    work,
                    polls,
                    claims,
                    candidate,
                    dispatcher,
                    timetable,
                    housekeeping,
                    clock,
                    troubles,
                    supervisor,
                    workers,
                )
                yield current  # a stop raises CancelledError here
        finally:
            if current is not None and not candidate.session.lost.done():
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(GOODBYE_TIMEOUT):
                        await current.take_leave(dsn)
