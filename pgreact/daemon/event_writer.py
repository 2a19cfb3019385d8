"""The event writer: adds what happens to the daemon to ``pgreact.event_log``."""

import asyncio
import json
import os
from collections import deque
from typing import Any

from pgreact import __version__
from pgreact.clock import Clock
from pgreact.postgres.application_name import HOST
from pgreact.postgres.errors import ascii_escaped
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry

MOST = 1000  # events that wait for a server that refuses them
GATE_PAUSE = 600.0  # seconds between two events of one gate: a busy one may change each second


class EventWriter:
    """Writes events during one leader's term, those that wait in one statement."""

    def __init__(self, session: Session, clock: Clock, troubles: Troubles) -> None:
        """Prepare the writer.

        Args:
            session: Runs the statement.
            clock: Measures durations.
            troubles: Reports failures.
        """
        self._session = session
        self._clock = clock
        self._trouble = troubles["event log"]
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._gates: dict[str, tuple[float, int]] = {}  # when a gate's last event was added, changes since
        self._wake = asyncio.Event()

    def add(self, event: str, subject: str, **details: Any) -> None:
        """Add an event; it is written soon.

        Args:
            event: Its name, ``noun.past_participle``.
            subject: The name of what it happened to.
            details: Values for JSON.
        """
        self._waiting.append({"event": event, "subject": subject, "details": details})
        self._wake.set()

    def elected(self, waited: float) -> None:
        """Add that this daemon was elected.

        Args:
            waited: Seconds that it stood by.
        """
        self.add("leader.elected", _name(), version=__version__, waited_s=round(waited, 3))

    def resigned(self) -> None:
        """Add that this daemon no longer leads."""
        self.add("leader.resigned", _name())

    def gate_changed(self, route: str, mode: str) -> None:
        """Add that a gate opened or closed, at most once in ``GATE_PAUSE`` for each route.

        Args:
            route: The route's name.
            mode: ``open`` or ``closed``.
        """
        now = self._clock.monotonic()
        at, changes = self._gates.get(route, (now - GATE_PAUSE, 0))
        if now - at < GATE_PAUSE:
            self._gates[route] = at, changes + 1
            return
        self._gates[route] = now, 0
        event = "gate.closed" if mode == "closed" else "gate.opened"
        self.add(event, route, **({"changes_since_last": changes} if changes else {}))

    async def run(self) -> None:
        """Write events until cancelled.

        Raises:
            SessionLost: The session is gone.
        """
        before = await retry(self._trouble, lambda: self._session.value(query("last_version")))
        if before != __version__:
            self.add("daemon.deployed", __version__, before=before)
        while True:
            await self._wake.wait()
            self._wake.clear()
            await retry(self._trouble, self.write)

    async def write(self, session: Session | None = None) -> None:
        """Write the events that wait.

        Args:
            session: In place of the writer's own.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused; then they wait for another attempt.
        """
        if not self._waiting:
            return
        events = list(self._waiting)
        self._waiting.clear()
        try:
            await (session or self._session).fetch(
                query("log_events"), json.dumps(events), f"daemon {_name()}"
            )
        except Exception:  # after a cancellation they may be written: they are not to be there twice
            self._waiting.extendleft(reversed(events))
            raise


def _name() -> str:
    return ascii_escaped(f"{HOST} {os.getpid()}")
