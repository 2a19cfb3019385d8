"""The status writer: stores each route's flight, and what fails at the moment, for ``pgreact status``."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from pgreact.clock import Clock
from pgreact.dispatch.dispatcher import Runner
from pgreact.postgres.errors import ascii_escaped
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Report, Troubles, retry, write_troubles
from pgreact.wakeup.gate import Gate

SOURCE = "listen"  # in pgreact.trouble
PAUSE = 1.0  # seconds between two writes: each costs a transaction, and people need nothing fresher


class StatusWriter:
    """Writes the flights that changed in one statement, at most once a second."""

    def __init__(
        self,
        session: Session,
        clock: Clock,
        gate: Callable[[int], Gate | None],
        gate_changed: Callable[[str, str], None],
        troubles: Troubles,
    ) -> None:
        """Prepare the writer.

        Args:
            session: Runs the statements.
            clock: Measures durations.
            gate: Returns a route's gate.
            gate_changed: Told the name of a route whose gate is found ``open`` or ``closed``, unlike before.
            troubles: What fails at the moment.
        """
        self._troubles = troubles
        self._session = session
        self._gate = gate
        self._gate_changed = gate_changed
        self._gates: dict[int, str] = {}
        self._clock = clock
        self._changed: dict[int, Runner] = {}
        self._written: dict[int, int] = {}
        self._reported: list[Report] | None = None
        self._wake = troubles.changed
        self._wake.set()  # the previous leader's status is no longer true

    def flight_changed(self, runner: Runner) -> None:
        """A route's flight changed: write it soon."""
        self._changed[runner.route.id] = runner
        self._wake.set()

    async def run(self) -> None:
        """Write what changed, for ever.

        Raises:
            SessionLost: The session is gone.
        """
        while True:
            await self._wake.wait()
            await asyncio.sleep(PAUSE)
            await retry(self._troubles["status"], self.write)

    async def write(self, session: Session | None = None) -> None:
        """Write what changed since the last time.

        Args:
            session: In place of the writer's own.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused; then it is to be done again.
        """
        session = session or self._session
        self._wake.clear()
        changed, self._changed = self._changed, {}
        try:
            if changed:
                rows = json.dumps([self._row(runner) for runner in changed.values()])
                written = {route_id: runner.dispatches for route_id, runner in changed.items()}
                await session.fetch(query("write_flight"), rows)
                self._written |= written
                changed = {}
            if (reports := self._troubles.reports()) != self._reported:
                await write_troubles(session, SOURCE, self._troubles)
                self._reported = reports
        finally:
            self._changed = {**changed, **self._changed}

    def _row(self, runner: Runner) -> dict[str, Any]:
        now, flight, last = self._clock.monotonic(), runner.flight, runner.last
        gate = self._gate(runner.route.id)
        mode = gate and ("closed" if gate.mode == "polling" else "open")
        if mode and mode != self._gates.setdefault(runner.route.id, "open"):
            self._gates[runner.route.id] = mode
            self._gate_changed(runner.route.name, mode)
        return {
            "route_id": runner.route.id,
            "dispatches": runner.dispatches - self._written.get(runner.route.id, 0),
            "task_id": last and last.task_id,
            "published_ago": last and now - last.published,
            "signals": last and last.signals,
            "waited_ms": last and round(last.waited * 1000, 3),
            "dirty_for": flight.pending and now - flight.pending.since,
            "in_flight_for": flight.in_flight and now - flight.began,
            "gate": mode,
            "gate_for": gate and now - gate.since,
            "unstarted_for": runner.unstarted_since and now - runner.unstarted_since,
            "error": runner.error and ascii_escaped(runner.error),
        }
