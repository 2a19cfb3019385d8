"""The run monitor: finds runs whose worker is gone, and messages that expired, by the locks of the routes.

A worker that dies reports nothing, but PostgreSQL frees its locks.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from pgreact.clock import Clock
from pgreact.dispatch.dispatcher import Runner
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Trouble, retry

PAUSE = 0.5  # seconds between two reads of the locks of a young flight
PAUSE_CAP = 5.0  # and of an old one: a tenth of its age, up to this


class RunMonitor:
    """Reads the locks of the routes whose flight may have ended without a report."""

    def __init__(
        self, session: Session, clock: Clock, runners: Mapping[int, Runner], trouble: Trouble
    ) -> None:
        self._session = session
        self._trouble = trouble
        self._clock = clock
        self._runners = runners
        self._read_at: dict[int, float] = {}
        self._changed = asyncio.Event()

    def flight_changed(self, _runner: Runner) -> None:
        """A flight changed: compute anew when to read."""
        self._changed.set()

    async def run(self) -> None:
        """Read the locks when it is due, for ever.

        Raises:
            SessionLost: The session is gone.
        """
        while True:
            await retry(self._trouble, self._read_when_due)

    async def _read_when_due(self) -> None:
        self._changed.clear()
        due = {
            route_id: at
            for route_id, runner in self._runners.items()
            if (at := self._due(runner)) is not None
        }
        wait = min(due.values()) - self._clock.monotonic() if due else None
        if wait is None or wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            return
        await self._read([route_id for route_id, at in due.items() if at <= self._clock.monotonic()])

    def _due(self, runner: Runner) -> float | None:
        at = runner.locks_due()
        if at is None:
            return None
        age = self._clock.monotonic() - at
        return max(at, self._read_at.get(runner.route.id, at) + min(PAUSE_CAP, max(PAUSE, age / 10)))

    async def _read(self, route_ids: list[int]) -> None:
        held = {row["route_id"] for row in await self._session.fetch(query("flights"), route_ids)}
        for route_id in route_ids:
            self._read_at[route_id] = self._clock.monotonic()
            if route_id in self._runners:
                self._runners[route_id].locks_read(held=route_id in held)
