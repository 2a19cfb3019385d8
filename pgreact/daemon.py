"""``pgreact listen``: connect, hear commits, lead or stand by, until told to stop."""

import asyncio
import contextlib
import gc
import os
import signal

from pgreact import __version__, logs
from pgreact.clock import Clock
from pgreact.database import conninfo
from pgreact.dispatch.jobs import JobPublisher
from pgreact.dispatch.publisher import DEADLINE, CeleryPublisher, open_app, shown
from pgreact.errors import PgreactError
from pgreact.identity import HOST, application_name, parse
from pgreact.operate.systemd import Systemd
from pgreact.settings import Settings
from pgreact.shipped import query
from pgreact.term import Term, term
from pgreact.wakeup import ownership
from pgreact.wakeup.leadership import Candidate
from pgreact.wakeup.listener import Deaf, Listener, pooler_suspected

BEAT = 15.0  # seconds between two signs of life: below the idle limit, and few enough for an idle minute
RECONNECT_BASE = 0.05
RECONNECT_CAP = 5.0
STOP_DEADLINE = 4.8


async def listen(settings: Settings, clock: Clock | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    Raises:
        ConfigError: DSN, application or broker are missing or wrong.
        PgreactError: The first connection failed, or the schema cannot be used.
    """
    daemon = Daemon(settings, clock or Clock())
    reason = "failed"
    try:
        daemon.take_signals()
        logs.emit(
            logs.DaemonStarted(
                version=__version__,
                host=HOST,
                pid=os.getpid(),
                database=conninfo.shown(settings.daemon_dsn),
                celery=shown(daemon.app),
                config=str(settings.file) if settings.file else None,
            )
        )
        reason = await daemon.run()
    except PgreactError as error:
        reason = str(error)
        raise
    finally:
        await daemon.publisher.close()
        await daemon.jobs.close()
        logs.emit(logs.DaemonStopped(reason=reason, uptime_s=daemon.uptime()))


class Daemon:
    """One ``pgreact listen`` process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.app = open_app(settings.app, settings.broker)
        self.publisher = CeleryPublisher(self.app)
        self.jobs = JobPublisher(self.app, DEADLINE)
        self._dsn = settings.daemon_dsn
        self._application = settings.belongs_to
        self._clock = clock
        self._began = clock.monotonic()
        self._systemd = Systemd()
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._term: Term | None = None
        self._led_since: float | None = None
        self._served = False
        self._failures = 0

    def uptime(self) -> float:
        """Return seconds since the daemon was made."""
        return round(self._clock.monotonic() - self._began, 3)

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT stop the daemon, and a second one end it at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    async def run(self) -> str:
        """Serve until told to stop; connect again, for ever, whenever a session is lost.

        Returns:
            Why it stopped.

        Raises:
            PgreactError: The first connection failed, or the schema cannot be used.
        """
        self.publisher.warm_up()
        gc.freeze()  # what was imported stays: no collection need look at it again
        while not self._stop.is_set():
            try:
                await self._serve()
            except PgreactError as loss:
                if not self._served:
                    raise pooler_suspected(loss) if isinstance(loss, Deaf) else loss from None
                await self._retreat(loss)
        self._systemd.stopping()
        return self._stop_reason

    async def _serve(self) -> None:
        """Open the sessions and work with them until told to stop, or until one is lost."""
        listener = await Listener.open(self._dsn, application_name("listener"), self._receive)
        sessions = [listener.session]
        try:
            candidate = await Candidate.open(self._dsn, application_name("standby"), self._clock)
            sessions.append(candidate.session)
            await self._prove_hearing(listener, candidate)
            await ownership.check(listener.session, self._application)
            async with asyncio.TaskGroup() as group:
                work = [
                    group.create_task(self._contend(listener, candidate), name="leadership"),
                    group.create_task(self._beat(listener, candidate), name="beat"),
                    *(group.create_task(session.watch(), name="watch") for session in sessions),
                ]
                group.create_task(self._cancel_when_stopped(work), name="stop")
        except* PgreactError as errors:
            error = _first(errors)
            self._end_term(error)
            raise error from None
        finally:
            self._end_term(None)
            await asyncio.gather(*(session.close() for session in sessions))

    async def _prove_hearing(self, listener: Listener, candidate: Candidate) -> None:
        """Make sure that notifications arrive, or that nobody sends any.

        Raises:
            SessionLost: They do not, and some route's writers would send them.
        """
        mode, reason = "notify", "LISTEN delivers: a notification to itself came back"
        try:
            # from the other session: a pooler delivers to whoever just used the server's connection
            probe = await listener.probe(candidate.session)
        except Deaf as deaf:
            if await candidate.session.value(query("notifying_routes")):
                raise
            listener.hears = False
            probe, mode, reason = 0.0, "poll", f"the gate of every route is set closed; {deaf}"
        logs.emit(
            logs.ListenerConnected(
                mode=mode, reason=reason, server=listener.session.version, probe_ms=round(probe * 1000, 3)
            )
        )

    async def _contend(self, listener: Listener, candidate: Candidate) -> None:
        """Stand by until elected, then lead."""
        waiting_since = self._clock.monotonic()
        if not await candidate.try_lead(patience=0.001):
            rows = await candidate.session.fetch(query("daemons"))
            leader = parse(rows[0]["application_name"]) if rows and rows[0]["granted"] else None
            logs.emit(logs.StandbyWaiting(leader=f"{leader.host} {leader.pid}" if leader else None))
            self._settled("standby")
            while not await candidate.try_lead():
                pass
        await candidate.session.fetch(
            "select set_config('application_name', $1, false)", application_name("leader")
        )
        waited = self._clock.monotonic() - waiting_since
        async with term(
            self._dsn, self.publisher, self.jobs, candidate, self._clock, hears=listener.hears
        ) as current:
            self._led_since = self._clock.monotonic()
            logs.emit(logs.LeaderElected(routes=current.routes, waited_s=round(waited, 3)))
            self._settled("leader")
            self._term = current
            try:
                await current.run()
            finally:
                self._term = None

    async def _beat(self, listener: Listener, candidate: Candidate) -> None:
        """Prove every so often that the sessions live: an open socket proves nothing."""
        while True:
            self._systemd.alive()
            await asyncio.sleep(BEAT)
            began = self._clock.monotonic()
            leading = self._term is not None
            # a standby's second session cannot send anything: it waits in the lock
            await listener.prove_alive(candidate.session if leading else None)
            if leading:
                candidate.alive(began)
            await ownership.check(listener.session, self._application)

    async def _retreat(self, loss: PgreactError) -> None:
        """Wait a little before the next attempt."""
        self._failures += 1
        delay = self._clock.backoff(self._failures, base=RECONNECT_BASE, cap=RECONNECT_CAP)
        if self._failures == 1:
            logs.emit(logs.ListenerLost(reason=str(loss), retry_in_s=round(delay, 3)))
            self._systemd.status(f"reconnecting: {loss}")
        self._systemd.alive()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay)

    def _receive(self, pid: int, payload: str) -> None:
        # a standby needs to remember nothing: whoever is elected sweeps
        if self._term is not None:
            self._term.receive(pid, payload)

    def _settled(self, status: str) -> None:
        self._failures = 0
        self._served = True
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
        """Broker and database both hang: nothing needs tidying, since the server notices that we are gone."""
        logs.emit(
            logs.DaemonStopped(reason=f"{self._stop_reason}; did not wait any longer", uptime_s=self.uptime())
        )
        os._exit(0)

    async def _cancel_when_stopped(self, tasks: list["asyncio.Task[None]"]) -> None:
        await self._stop.wait()
        for task in tasks:
            task.cancel()


def _first(group: BaseExceptionGroup[PgreactError]) -> PgreactError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PgreactError)
    return error
