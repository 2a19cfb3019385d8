"""``celery beat -S pgreact``: a scheduler for Celery's Beat that runs pgreact's timetable."""

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from celery import Celery
from celery.beat import Scheduler

from pgreact import logs, settings
from pgreact.broker.job_publisher import JobPublisher
from pgreact.broker.publisher import DEADLINE
from pgreact.clock import Clock
from pgreact.errors import PgreactError, SessionLost, first
from pgreact.postgres import conninfo, installation
from pgreact.postgres.application_name import application_name
from pgreact.postgres.connect import connect
from pgreact.postgres.errors import describe
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry, write_troubles
from pgreact.timetable.engine import Timetable
from pgreact.timetable.importers import entries, upsert
from pgreact.timetable.importers.skipped import Skipped
from pgreact.wakeup.listener import Listener
from pgreact.wakeup.notification import SchedulesChanged, parse
from pgreact.worker.database import databases

TICK = 5.0  # seconds: Beat's loop must go on, or "inspect ping" takes it for stalled
BEAT = 15.0  # seconds between two proofs that the listener receives notifications
REPORT_PAUSE = 1.0  # seconds between two writes of the current failures
NAMED = 20  # names of schedules in a line of the log
OTHERS = 10_001  # schedules of other origins that are counted, at most
BACKOFF_BASE = 0.1
BACKOFF_CAP = 5.0


class PgreactScheduler(Scheduler):
    """Fires the rows of ``pgreact.schedule``, after it has written those of ``app.conf.beat_schedule``.

    Several may run, beside ``pgreact listen`` or not: one fires, the others take over the moment it ends.
    Rows of ``beat_schedule`` are sent directly, or enqueued as jobs if the setting ``pgreact_delivery`` is
    ``"queue"``.
    """

    _host: "_Host | None" = None

    def setup_schedule(self) -> None:
        """Do nothing yet: with ``-B`` this process forks, and Beat makes a second instance for its banner."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Run the timetable for some seconds.

        Returns:
            0: Beat is to call again at once.
        """
        if self._host is None:
            # celery.backend_cleanup, if the result backend needs it
            self.schedule = {}
            self.install_default_entries(self.app.conf.beat_schedule)
            self._host = _Host(self.app, {**self.schedule, **self.app.conf.beat_schedule})
        self._host.run(TICK)
        return 0.0

    def close(self) -> None:
        """Close the sessions; may be called twice."""
        host, self._host = self._host, None
        if host is not None:
            host.stop()
        super().close()

    @property
    def info(self) -> str:
        """The line of Beat's banner: the database, without password."""
        try:
            return f"    . database -> {conninfo.redacted(_dsn(self.app))}"
        except PgreactError as error:
            return f"    . database -> {error}"


class _Host:
    """An event loop that runs while Beat ticks. No error ends it: each of its tasks retries."""

    def __init__(self, app: Celery, entries: dict[str, Any]) -> None:
        logs.log_to("celery.beat")
        gc.freeze()  # imported modules stay: collections need not visit them
        self._app = app
        self._entries = entries
        self._clock = Clock()
        self._troubles = Troubles(self._clock)
        self._loop = asyncio.new_event_loop()
        self._jobs = JobPublisher(app, DEADLINE)
        self._task: asyncio.Task[None] | None = None
        self._asked_to_end = asyncio.Event()  # by a signal
        self._failures = 0  # of the listener, in a row

    def run(self, seconds: float) -> None:
        """Run the event loop for some seconds, or until a signal asks Beat to end."""
        with _signals_deferred(lambda: self._loop.call_soon_threadsafe(self._asked_to_end.set)):
            self._loop.run_until_complete(self._go_on(seconds))

    def stop(self) -> None:
        """Close the sessions and the loop."""
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _go_on(self, seconds: float) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        asked = asyncio.create_task(self._asked_to_end.wait())
        await asyncio.wait({self._task, asked}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        self._asked_to_end.clear()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._jobs.close()

    async def _serve(self) -> None:
        trouble = self._troubles["beat"]
        while True:
            try:
                await self._run_timetable(_dsn(self._app))
            except Exception as error:  # noqa: BLE001 - an exception from tick() would end Beat
                await asyncio.sleep(trouble.failed(first(error)))

    async def _run_timetable(self, dsn: str) -> None:
        await retry(self._troubles["owner"], lambda: asyncio.to_thread(_refuse, dsn))
        self._troubles["beat"].recovered()
        timetable = Timetable(dsn, self._jobs, self._clock, self._troubles, notified=False)
        tried = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apply_entries(dsn, tried), name="beat_schedule")
            group.create_task(self._listen(dsn, timetable), name="listener")
            await tried.wait()
            group.create_task(timetable.run(), name="timetable")

    async def _listen(self, dsn: str, timetable: Timetable) -> None:
        """Wake the timetable at edits, for ever; while the listener fails, the timetable polls."""
        while True:
            try:
                await self._hear(dsn, timetable)
            except Exception as error:
                if isinstance(first(error), PgreactError) and not isinstance(first(error), SessionLost):
                    raise  # the database belongs to another application now
                timetable.notified = False
                timetable.poke()
                self._failures += 1
                pause = self._clock.backoff(self._failures, base=BACKOFF_BASE, cap=BACKOFF_CAP)
                if self._failures == 1:
                    logs.emit(logs.ListenerLost(reason=describe(first(error)), retry_in_s=round(pause, 3)))
                await asyncio.sleep(pause)

    async def _hear(self, dsn: str, timetable: Timetable) -> None:
        def receive(_pid: int, payload: str) -> None:
            if isinstance(parse(payload), SchedulesChanged):
                timetable.poke()

        listener = await Listener.open(dsn, application_name("beat"), receive)
        try:
            probe = await listener.probe()
            logs.emit(
                logs.ListenerConnected(
                    mode="notify",
                    reason="LISTEN delivers: a notification to itself came back",
                    server=listener.session.version,
                    probe_ms=round(probe * 1000, 3),
                )
            )
            self._failures = 0
            timetable.notified = True
            timetable.poke()  # for edits made before it listened
            async with asyncio.TaskGroup() as group:
                group.create_task(listener.session.wait_until_lost(), name="watch")
                group.create_task(self._beat(listener), name="beat")
                group.create_task(self._report(listener.session, timetable), name="report")
        finally:
            await listener.session.close()

    async def _beat(self, listener: Listener) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await listener.prove_alive()
            await retry(self._troubles["owner"], lambda: installation.check(listener.session, _application()))

    async def _report(self, session: Session, timetable: Timetable) -> None:
        """Write the current failures for ``pgreact status``, while this process fires."""
        while True:
            await timetable.leads.wait()
            self._troubles.changed.clear()
            await retry(self._troubles["status"], lambda: write_troubles(session, "beat", self._troubles))
            await self._troubles.changed.wait()
            await asyncio.sleep(REPORT_PAUSE)

    async def _apply_entries(self, dsn: str, tried: asyncio.Event) -> None:
        """Write the application's entries as rows of origin "app"; set ``tried`` after the first attempt."""
        trouble = self._troubles["beat_schedule"]

        async def attempt() -> tuple[upsert.Report, int]:
            try:
                return await asyncio.to_thread(self._write, dsn)
            finally:
                tried.set()

        report, others = await retry(trouble, attempt)
        logs.emit(
            logs.SchedulesApplied(
                added=list(report.added[:NAMED]),
                changed=list(report.changed[:NAMED]),
                removed=list(report.removed[:NAMED]),
                unchanged=len(report.unchanged),
                left=[entry.name for entry in report.skipped[:NAMED]],
                others=others,
            )
        )
        for entry in report.skipped:
            logs.emit(logs.ScheduleRefused(schedule=entry.name, error=entry.reason))

    def _write(self, dsn: str) -> tuple[upsert.Report, int]:
        """Write them in one transaction; return the report, and the number of other schedules."""
        delivery = self._app.conf.get("pgreact_delivery", "direct")
        written = [entries.row(name, entry, self._app) for name, entry in self._entries.items()]
        written = [row if isinstance(row, Skipped) else {**row, "delivery": delivery} for row in written]
        with _session(dsn) as connection:
            installation.refuse(installation.owner_of(connection), _application())
            report = upsert.write(connection, written, "app", prune=True)
            # a count of all would hold up the first firing
            [others] = connection.execute(
                "select count(*) from (select from pgreact.schedule where origin <> 'app' limit %s) s",
                (OTHERS,),
            ).fetchone() or [0]
            return report, others


@contextlib.contextmanager
def _signals_deferred(received: Callable[[], object]) -> Iterator[None]:
    """Call Beat's handlers of SIGINT and SIGTERM at the end of the context, instead of in the midst of it.

    They raise SystemExit. Raised within a callback of asyncio or of asyncpg's compiled code, it leaves their
    state half changed, and the process may crash when it closes its sessions.

    Args:
        received: Called in the signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Beat runs in a thread of a worker (-B with the solo pool), which handles the signals
        return
    signums: list[int] = []

    def defer(signum: int, _frame: FrameType | None) -> None:
        signums.append(signum)
        received()

    handlers = {
        signum: handler
        for signum in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(signum))
    }
    for signum in handlers:
        signal.signal(signum, defer)
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    for received_signum in signums:
        handlers[signal.Signals(received_signum)](received_signum, None)


@contextlib.contextmanager
def _session(dsn: str) -> Iterator[upsert.Connection]:
    try:
        with connect(dsn) as connection:
            yield connection
    except PgreactError as error:
        raise error.__cause__ or error from None  # PostgreSQL's own error, which can be classified


def _refuse(dsn: str) -> None:
    """Refuse a database that belongs to another application."""
    with _session(dsn) as connection:
        installation.refuse(installation.owner_of(connection), _application())


def _application() -> str | None:
    return settings.load(None).owner


def _dsn(app: Celery) -> str:
    database = databases.get(app)
    if database is not None and database.given is not None:
        return database.given
    return settings.load(None).daemon_dsn
