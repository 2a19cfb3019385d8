"""``pgreact listen``: connect, listen, lead or stand by, until a signal stops it."""

import asyncio
import contextlib
import gc
import math
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Literal, TypeVar

from pgreact import __version__, logs
from pgreact.address import Address
from pgreact.broker.job_publisher import JobPublisher
from pgreact.broker.publisher import DEADLINE, CeleryPublisher, open_app, shown
from pgreact.clock import Clock
from pgreact.daemon.http_server import HttpServer
from pgreact.daemon.state import DaemonState
from pgreact.daemon.systemd import Systemd
from pgreact.daemon.term import Term, term
from pgreact.dispatch.registration_monitor import CeleryWorkers
from pgreact.errors import PgreactError, SessionLost, leaves
from pgreact.postgres import conninfo, installation
from pgreact.postgres.application_name import HOST, application_name, parse
from pgreact.postgres.errors import describe
from pgreact.postgres.queries import query
from pgreact.postgres.trouble import Troubles, retry
from pgreact.settings import Settings
from pgreact.wakeup.leadership import Candidate
from pgreact.wakeup.listener import NotDelivered, pooler_suspected
from pgreact.wakeup.listener_supervisor import ListenerSupervisor

if TYPE_CHECKING:
    from pgreact.daemon.http_endpoints import Endpoints

T = TypeVar("T")

HEARTBEAT = 15.0  # seconds between two heartbeats: below the idle limit of the sessions
RECONNECT_BASE = 0.05
RECONNECT_CAP = 5.0
HEARTBEAT_HURRIED = 1.0  # seconds, while PostgreSQL's queue of notifications fills up
STABLE = 10.0  # seconds of service after which a failure is a new one, and not another in a row
STOP_DEADLINE = 4.8


async def listen(settings: Settings, read_status: Callable[[], str], clock: Clock | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    Args:
        settings: The configuration.
        read_status: Returns the JSON of ``pgreact status``, for the path ``/status``.
        clock: Measures.

    Raises:
        ConfigError: DSN, application or broker are missing or wrong.
        PgreactError: The first connection failed, the schema cannot be used, or the port for HTTP is taken.
    """
    daemon = Daemon(settings, clock or Clock(), read_status)
    reason = "failed"
    try:
        daemon.take_signals()
        logs.emit(
            logs.DaemonStarted(
                version=__version__,
                host=HOST,
                pid=os.getpid(),
                database=conninfo.redacted(settings.daemon_dsn),
                celery=shown(daemon.app),
                config=settings.source,
            )
        )
        reason = await daemon.run()
    except PgreactError as error:
        reason = str(error)
        raise
    finally:
        await daemon.close()
        logs.emit(logs.DaemonStopped(reason=reason, uptime_s=daemon.uptime()))


class Daemon:
    """One ``pgreact listen`` process."""

    def __init__(
        self, settings: Settings, clock: Clock, read_status: Callable[[], str] = lambda: "{}"
    ) -> None:
        self.app = open_app(settings.app, settings.broker)
        self.publisher = CeleryPublisher(self.app)
        self.jobs = JobPublisher(self.app, DEADLINE)
        self.workers = CeleryWorkers(self.app)
        self._dsn = settings.daemon_dsn
        self._application = settings.owner
        self._clock = clock
        self._began = clock.monotonic()
        self._systemd = Systemd()
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._term: Term | None = None
        self._led_since: float | None = None
        self._served = False
        self._served_at = 0.0
        self._failures = 0
        self._troubles = Troubles(clock)
        self.state = DaemonState(clock, self._began)
        self._http_address = settings.http
        self._http: HttpServer | None = None
        self._endpoints: Endpoints | None = None
        self._read_status = read_status

    async def close(self) -> None:
        """Close the HTTP server, and the connections to the broker and to the service manager."""
        if self._http is not None:
            await self._http.close()
        await self.publisher.close()
        await self.jobs.close()
        self._systemd.close()

    def uptime(self) -> float:
        """Return the seconds since the daemon was made."""
        return round(self._clock.monotonic() - self._began, 3)

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT stop the daemon, and a second one end it at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    async def run(self) -> str:
        """Serve until a signal stops it; connect again, for ever, whenever a session is lost.

        Returns:
            The reason it stopped: the signal's name.

        Raises:
            PgreactError: The first connection failed, the schema cannot be used, or the port for HTTP is
                taken.
        """
        if self._http_address is not None:
            await self._open_http(self._http_address)
        self.publisher.warm_up()
        gc.freeze()  # the imported modules stay: no collection need visit them
        while not self._stop.is_set():
            try:
                await self._serve()
            except PgreactError as loss:
                if not self._served:
                    raise pooler_suspected(loss) if isinstance(loss, NotDelivered) else loss from None
                await self._retreat(loss)
        self._systemd.stopping()
        return self._stop_reason

    async def _open_http(self, address: Address) -> None:
        # loaded only where it is used
        from pgreact.daemon.http_endpoints import Endpoints

        self._endpoints = Endpoints(self.state, self._dsn, self.workers, self._troubles, self._read_status)
        self._http = HttpServer(self._endpoints.handlers, self._troubles["http"])
        logs.emit(logs.HttpOpened(address=str(await self._http.open(address))))

    async def _serve(self) -> None:
        """Open the sessions and use them until a signal stops the daemon, or until one is lost.

        Raises:
            PgreactError: A session is lost, or an error occurred that is no single statement's.
        """
        supervisor = ListenerSupervisor(
            self._dsn, self._receive, self._notifications_changed, self._clock, self._troubles
        )
        candidate: Candidate | None = None
        failure: PgreactError | None = None
        self.state.hearing = supervisor
        try:
            await supervisor.open()
            candidate = await Candidate.open(
                self._dsn, application_name("standby", version=__version__), self._clock
            )
            await self._prove_delivery(supervisor, candidate)
            await self._check_owner(supervisor)
            await _apart(self._work(supervisor, candidate))
        except* Exception as errors:  # noqa: BLE001 - no error ends the daemon once it has served
            failure = _first(errors)
            self._end_term(failure)
        finally:
            self._end_term(None)
            self.state.role = self.state.hearing = None
            await supervisor.close()
            if candidate is not None:
                await candidate.session.close()
        if failure is not None:
            # not in the handler: Python 3.11 before 3.11.4 would wrap it into a group
            raise failure from failure.__cause__

    async def _work(self, supervisor: ListenerSupervisor, candidate: Candidate) -> None:
        """Use the sessions until a signal stops the daemon, or until one is lost."""
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(self._contend(supervisor, candidate), name="leadership"),
                group.create_task(self._heartbeat(supervisor, candidate), name="heartbeat"),
                group.create_task(supervisor.watch(), name="listener"),
                group.create_task(candidate.session.wait_until_lost(), name="watch"),
            ]
            group.create_task(self._cancel_when_stopped(work), name="stop")

    async def _prove_delivery(self, supervisor: ListenerSupervisor, candidate: Candidate) -> None:
        """Make sure that notifications arrive, or that no writer sends any.

        Raises:
            SessionLost: They do not arrive, and some route's writers send them.
        """
        listener = supervisor.listener
        assert listener is not None
        mode, reason, probe = "notify", "LISTEN delivers: a notification to itself came back", 0.0
        try:
            # from the other session: a pooler delivers to the client that just used the server's connection
            probe = await listener.probe(candidate.session)
        except NotDelivered as failure:
            if await self._ask("routes", lambda: candidate.session.value(query("notifying_routes"))):
                raise
            listener.delivers = False
            mode, reason = "poll", f"the gate of every route is set closed; {failure}"
            supervisor.do_without(reason)
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a later one arrives, or the queue of notifications is full
            mode, reason = "poll", f"it cannot notify itself: {describe(error)}"
        for session in (listener.session, candidate.session):
            await self._ask("search path", session.set_search_path)
        logs.emit(
            logs.ListenerConnected(
                mode=mode, reason=reason, server=listener.session.version, probe_ms=round(probe * 1000, 3)
            )
        )
        supervisor.check_queue_usage()

    async def _contend(self, supervisor: ListenerSupervisor, candidate: Candidate) -> None:
        """Stand by until elected, then lead."""
        waiting_since = self._clock.monotonic()
        if not await self._ask("leadership", lambda: candidate.try_lead(timeout=0.001)):
            rows = await self._ask("leadership", lambda: candidate.session.fetch(query("daemons")))
            leader = parse(rows[0]["application_name"]) if rows and rows[0]["granted"] else None
            logs.emit(logs.StandbyWaiting(leader=f"{leader.host} {leader.pid}" if leader else None))
            self._settled("standby")
            while not await self._ask("leadership", candidate.try_lead):
                pass
        naming = "select set_config('application_name', $1, false)"
        name = application_name("leader", version=__version__)
        await self._ask("leadership", lambda: candidate.session.fetch(naming, name))
        waited = self._clock.monotonic() - waiting_since
        async with term(
            self._dsn,
            self.publisher,
            self.jobs,
            self.workers,
            candidate,
            self._clock,
            self._troubles,
            supervisor,
            self._ask,
            self.state,
        ) as current:
            self._led_since = self._clock.monotonic()
            self.state.elections += 1
            logs.emit(logs.LeaderElected(routes=current.routes, waited_s=round(waited, 3)))
            self._settled("leader")
            current.events.elected(waited)
            self._term = current
            self.state.routes = current.read_routes
            try:
                await _apart(self._lead(current))
            finally:
                self._term = None
                self.state.role = self.state.routes = None

    async def _lead(self, current: Term) -> None:
        async with asyncio.TaskGroup() as group:
            if self._endpoints is not None:
                group.create_task(self._endpoints.observe_term(), name="metrics")
            await current.run()

    async def _ask(self, subject: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run a statement until it works.

        Raises:
            SessionLost: The session is gone.
            PgreactError: It is refused before the daemon has ever served: a mistake in its setup.
        """
        return await retry(self._troubles[subject], attempt, give_up_if_refused=not self._served)

    async def _heartbeat(self, supervisor: ListenerSupervisor, candidate: Candidate) -> None:
        """Prove at regular intervals that the sessions answer: an open socket proves nothing."""
        while True:
            self._alive()
            await asyncio.sleep(HEARTBEAT_HURRIED if supervisor.hurried else HEARTBEAT)
            began = self._clock.monotonic()
            leading = self._term is not None
            # a standby's second session is busy: it waits in the lock
            await supervisor.prove_alive(candidate.session if leading else None)
            if leading:
                candidate.alive(began)
            await self._check_owner(supervisor)

    async def _check_owner(self, supervisor: ListenerSupervisor) -> None:
        """Make sure that the database still belongs to this daemon's application.

        Raises:
            PgreactError: It does not.
        """
        if supervisor.listener is not None:
            session = supervisor.listener.session
            await self._ask("owner", lambda: installation.check(session, self._application))

    async def _retreat(self, loss: PgreactError) -> None:
        """Wait before the next attempt, longer after each failure in a row."""
        if self._clock.monotonic() - self._served_at > STABLE:
            self._failures = 0
        self._served_at = math.inf
        self._failures += 1
        delay = self._clock.backoff(self._failures, base=RECONNECT_BASE, cap=RECONNECT_CAP)
        if self._failures == 1:
            logs.emit(logs.ListenerLost(reason=str(loss), retry_in_s=round(delay, 3)))
            self._systemd.status(f"reconnecting: {loss}")
        self._alive()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stop.wait()

    def _receive(self, pid: int, payload: str) -> None:
        # a standby remembers nothing: it sweeps once it is elected
        if self._term is not None:
            self._term.receive(pid, payload)

    def _notifications_changed(self) -> None:
        if self._term is not None:
            self._term.notifications_changed()

    def _alive(self) -> None:
        self._systemd.alive()
        self.state.tick()

    def _settled(self, status: Literal["leader", "standby"]) -> None:
        self._served = True
        self.state.role = status
        self._served_at = self._clock.monotonic()
        self._systemd.ready(status)

    def _end_term(self, error: PgreactError | None) -> None:
        since, self._led_since = self._led_since, None
        if since is None:
            return
        led = round(self._clock.monotonic() - since, 3)
        logs.emit(logs.LeaderLost(reason=str(error), led_s=led) if error else logs.LeaderResigned(led_s=led))

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop_reason = signal.Signals(number).name
        self._stop.set()
        asyncio.get_running_loop().call_later(STOP_DEADLINE, self._give_up)

    def _give_up(self) -> None:
        """Exit though broker or database hang: PostgreSQL notices that the sessions are gone."""
        logs.emit(
            logs.DaemonStopped(reason=f"{self._stop_reason}; broker or database hung", uptime_s=self.uptime())
        )
        os._exit(0)

    async def _cancel_when_stopped(self, tasks: list["asyncio.Task[None]"]) -> None:
        await self._stop.wait()
        for task in tasks:
            task.cancel()


def _first(group: BaseExceptionGroup[Exception]) -> PgreactError:
    """Return the error to report: a lost session, if one was lost."""
    errors = list(leaves(group))
    for kind in (SessionLost, PgreactError):
        for error in errors:
            if isinstance(error, kind):
                return error
    mistake = PgreactError(f"{describe(errors[0])} (this is a fault of pgreact: please report it)")
    mistake.__cause__ = errors[0]
    return mistake


async def _apart(work: Coroutine[None, None, None]) -> None:
    """Run task groups in a task of their own.

    Before Python 3.11.4 a group whose child fails leaves its task with a request to cancel it. That turns
    the next timeout of the task into a cancellation.
    """
    await asyncio.create_task(work)
