"""``celery beat -S pgreact``: Beat's own program around pgreact's timetable."""

import asyncio
import gc
from typing import Any

import asyncpg
from celery import Celery
from celery.beat import Scheduler

from pgreact import logs, settings
from pgreact.clock import Clock
from pgreact.database import conninfo, installation
from pgreact.database.connect import connect
from pgreact.dispatch.jobs import JobPublisher
from pgreact.dispatch.publisher import DEADLINE
from pgreact.errors import PgreactError
from pgreact.identity import application_name
from pgreact.timetable import carry, entries
from pgreact.timetable.engine import Timetable
from pgreact.timetable.uncarried import Uncarried
from pgreact.wakeup.listener import Listener
from pgreact.worker.door import doors

TICK = 5.0  # seconds: Beat's loop must come by now and then, or "inspect ping" takes it for stalled
BEAT = 15.0  # seconds between two proofs that the listener hears
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
    """An event loop that runs while Beat ticks."""

    def __init__(self, app: Celery, entries: dict[str, Any]) -> None:
        logs.join("celery.beat")
        gc.freeze()  # what was imported stays: no collection need look at it again
        self._app = app
        self._entries = entries
        self._clock = Clock()
        self._loop = asyncio.new_event_loop()
        self._jobs = JobPublisher(app, DEADLINE)
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

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
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        await asyncio.wait({self._task}, timeout=seconds)
        if self._task.done():
            self._task.result()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._jobs.close()

    async def _serve(self) -> None:
        while True:
            try:
                await self._play(_dsn(self._app))
            except* (PgreactError, asyncpg.PostgresError, OSError) as errors:
                error = errors.exceptions[0]
                self._failures += 1
                pause = self._clock.backoff(self._failures, base=BACKOFF_BASE, cap=BACKOFF_CAP)
                if self._failures == 1:
                    logs.emit(logs.ListenerLost(reason=str(error), retry_in_s=round(pause, 3)))
            await asyncio.sleep(pause)

    async def _play(self, dsn: str) -> None:
        timetable = Timetable(dsn, self._jobs, self._clock)

        def receive(_pid: int, payload: str) -> None:
            if payload == "schedule":
                timetable.poke()

        await asyncio.to_thread(self._lay_in, dsn)
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
            async with asyncio.TaskGroup() as group:
                group.create_task(listener.session.watch(), name="watch")
                group.create_task(_beat(listener), name="beat")
                group.create_task(timetable.run(), name="timetable")
        finally:
            await listener.session.close()

    def _lay_in(self, dsn: str) -> None:
        """Make the rows of origin "app" as the application says."""
        delivery = self._app.conf.get("pgreact_delivery", "direct")
        rows = [entries.row(name, entry, self._app) for name, entry in self._entries.items()]
        with connect(dsn) as connection:
            installation.refuse(installation.owner_of(connection), settings.load(None).belongs_to)
            report = carry.write(
                connection,
                [row if isinstance(row, Uncarried) else {**row, "delivery": delivery} for row in rows],
                "app",
                prune=True,
            )
        for entry in report.uncarried:
            logs.emit(logs.ScheduleRefused(schedule=entry.name, error=entry.reason))


async def _beat(listener: Listener) -> None:
    while True:
        await asyncio.sleep(BEAT)
        await listener.prove_alive()


def _dsn(app: Celery) -> str:
    door = doors.get(app)
    if door is not None and door.given is not None:
        return door.given
    return settings.load(None).daemon_dsn
