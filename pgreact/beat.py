"""``celery beat -S pgreact``: Beat's own program around pgreact's timetable."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
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
from pgreact.postgres.errors import said
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, persist, store
from pgreact.timetable.engine import Timetable
from pgreact.timetable.importers import rows, upsert
from pgreact.timetable.importers.skipped import Uncarried
from pgreact.wakeup.listener import Listener
from pgreact.wakeup.notification import SchedulesChanged, parse
from pgreact.worker.database import databases

TICK = 5.0  # seconds: Beat's loop must come by now and then, or "inspect ping" takes it for stalled
BEAT = 15.0  # seconds between two proofs that the listener hears
REPORT_PAUSE = 1.0  # seconds between two writes of what fails
NAMED = 20  # names of schedules in a line of the log
BACKOFF_BASE = 0.1
BACKOFF_CAP = 5.0


class PgreactScheduler(Scheduler):
    """Fires the rows of ``pgreact.schedule``; ``app.conf.beat_schedule`` is laid into them when it starts.

    Several may run, beside ``pgreact listen``, too: one fires, the others take over the moment it ends. Rows
    of ``beat_schedule`` are sent directly, or as jobs if the setting ``pgreact_delivery`` is ``"queue"``.
    """

    _host: "_Host | None" = None

    def setup_schedule(self) -> None:
        """Do nothing yet: with ``-B`` this process forks, and the banner is printed by a second instance."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Fire what is due, for some seconds.

        Returns:
            0: it has waited long enough.
        """
        if self._host is None:
            # Celery's own cleaning of results, where the backend needs it
            self.schedule = {}
            self.install_default_entries(self.app.conf.beat_schedule)
            self._host = _Host(self.app, {**self.schedule, **self.app.conf.beat_schedule})
        self._host.run(TICK)
        return 0.0

    def close(self) -> None:
        """Let go of the database and the broker; may be called from a signal's handler, and twice."""
        if self._host is not None and self._host.stop():
            self._host = None
        super().close()

    @property
    def info(self) -> str:
        """What the banner says: where the schedules are, without password."""
        try:
            return f"    . database -> {conninfo.shown(_dsn(self.app))}"
        except PgreactError as error:
            return f"    . database -> {error}"


class _Host:
    """An event loop that runs while Beat ticks. No error ends it: each of its parts tries again by itself."""

    def __init__(self, app: Celery, entries: dict[str, Any]) -> None:
        logs.log_to("celery.beat")
        gc.freeze()  # what was imported stays: no collection need look at it again
        self._app = app
        self._entries = entries
        self._clock = Clock()
        self._troubles = Troubles(self._clock)
        self._loop = asyncio.new_event_loop()
        self._jobs = JobPublisher(app, DEADLINE)
        self._task: asyncio.Task[None] | None = None
        self._failures = 0  # of the listener, in a row

    def run(self, seconds: float) -> None:
        """Let the timetable go on for some seconds."""
        self._loop.run_until_complete(self._go_on(seconds))

    def stop(self) -> bool:
        """End it; return false where that is not possible: in a signal's handler, in the midst of it."""
        if self._loop.is_running():
            return False
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._end())
            self._loop.close()
        return True

    async def _go_on(self, seconds: float) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        await asyncio.wait({self._task}, timeout=seconds)

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._jobs.close()

    async def _serve(self) -> None:
        trouble = self._troubles["beat"]
        while True:
            try:
                await self._play(_dsn(self._app))
            except Exception as error:  # noqa: BLE001 - what comes out of a tick would end Beat
                await asyncio.sleep(trouble.failed(first(error)))

    async def _play(self, dsn: str) -> None:
        await persist(self._troubles["owner"], lambda: asyncio.to_thread(_refuse, dsn))
        self._troubles["beat"].over()
        timetable = Timetable(dsn, self._jobs, self._clock, self._troubles, hears=False)
        laid = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lay_in(dsn, laid), name="beat_schedule")
            group.create_task(self._listen(dsn, timetable), name="listener")
            await laid.wait()
            group.create_task(timetable.run(), name="timetable")

    async def _listen(self, dsn: str, timetable: Timetable) -> None:
        """Hear of edits, for ever; while that fails, the timetable looks for them."""
        while True:
            try:
                await self._hear(dsn, timetable)
            except Exception as error:
                if isinstance(first(error), PgreactError) and not isinstance(first(error), SessionLost):
                    raise  # the database belongs to another application now
                timetable.hears = False
                timetable.poke()
                self._failures += 1
                pause = self._clock.backoff(self._failures, base=BACKOFF_BASE, cap=BACKOFF_CAP)
                if self._failures == 1:
                    logs.emit(logs.ListenerLost(reason=said(first(error)), retry_in_s=round(pause, 3)))
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
            timetable.hears = True
            timetable.poke()  # what was edited before it listened
            async with asyncio.TaskGroup() as group:
                group.create_task(listener.session.watch(), name="watch")
                group.create_task(self._beat(listener), name="beat")
                group.create_task(self._report(listener.session, timetable), name="report")
        finally:
            await listener.session.close()

    async def _beat(self, listener: Listener) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await listener.prove_alive()
            await persist(
                self._troubles["owner"], lambda: installation.check(listener.session, _application())
            )

    async def _report(self, session: Session, timetable: Timetable) -> None:
        """Write what fails at the moment for ``pgreact status``, while it is this process that fires."""
        while True:
            await timetable.leads.wait()
            self._troubles.changed.clear()
            await persist(self._troubles["status"], lambda: store(session, "beat", self._troubles))
            await self._troubles.changed.wait()
            await asyncio.sleep(REPORT_PAUSE)

    async def _lay_in(self, dsn: str, tried: asyncio.Event) -> None:
        """Make the rows of origin "app" as the application says; rows that are there fire meanwhile."""
        trouble = self._troubles["beat_schedule"]

        async def attempt() -> tuple[upsert.Report, int]:
            try:
                return await asyncio.to_thread(self._write, dsn)
            finally:
                tried.set()

        report, others = await persist(trouble, attempt)
        logs.emit(
            logs.SchedulesApplied(
                added=list(report.carried[:NAMED]),
                changed=list(report.changed[:NAMED]),
                removed=list(report.removed[:NAMED]),
                unchanged=len(report.unchanged),
                left=[entry.name for entry in report.uncarried[:NAMED]],
                others=others,
            )
        )
        for entry in report.uncarried:
            logs.emit(logs.ScheduleRefused(schedule=entry.name, error=entry.reason))

    def _write(self, dsn: str) -> tuple[upsert.Report, int]:
        """Write them, in one transaction; return what became of them, and how many others there are."""
        delivery = self._app.conf.get("pgreact_delivery", "direct")
        written = [rows.row(name, entry, self._app) for name, entry in self._entries.items()]
        written = [row if isinstance(row, Uncarried) else {**row, "delivery": delivery} for row in written]
        with _session(dsn) as connection:
            installation.refuse(installation.owner_of(connection), _application())
            report = upsert.write(connection, written, "app", prune=True)
            [others] = connection.execute(
                "select count(*) from pgreact.schedule where origin <> 'app'"
            ).fetchone() or [0]
            return report, others


@contextlib.contextmanager
def _session(dsn: str) -> Iterator[upsert.Connection]:
    try:
        with connect(dsn) as connection:
            yield connection
    except PgreactError as error:
        raise error.__cause__ or error from None  # PostgreSQL's own says what it means


def _refuse(dsn: str) -> None:
    """Fire nothing for another application than the one that the database belongs to."""
    with _session(dsn) as connection:
        installation.refuse(installation.owner_of(connection), _application())


def _application() -> str | None:
    return settings.load(None).belongs_to


def _dsn(app: Celery) -> str:
    database = databases.get(app)
    if database is not None and database.given is not None:
        return database.given
    return settings.load(None).daemon_dsn
