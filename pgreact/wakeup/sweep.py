"""Looking for work that nobody signalled: NOTIFY is a hint, the sweep is the truth."""

import time

from pgreact import logs
from pgreact.dispatch.dispatcher import Runner
from pgreact.errors import SessionLost
from pgreact.postgres.errors import said
from pgreact.postgres.session import Session

READY_TIMEOUT = 5.0


class Sweeper:
    """Sweeps the routes of one leader's term."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next: dict[int, float] = {}
        self._errors: dict[int, str] = {}

    async def sweep(self, runner: Runner, reason: str) -> None:
        """Signal a route unless its ready query says that there is nothing to do.

        A ready query that fails counts as yes: a dispatch too many is harmless, one too few is not.

        Raises:
            SessionLost: The session is gone.
        """
        route = runner.route
        began = time.monotonic()
        ready = True
        if route.ready is not None:
            try:
                ready = await self._session.boolean_query(route.ready, READY_TIMEOUT)
                if self._errors.pop(route.id, None):
                    logs.emit(logs.SweepRecovered(route=route.name))
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - its answer may be anything, too
                text = said(error)
                if self._errors.get(route.id) != text:
                    logs.emit(logs.SweepFailed(route=route.name, error=text))
                self._errors[route.id] = text
        took = time.monotonic() - began
        self._next[route.id] = time.monotonic() + route.sweep
        if ready:
            runner.signal()
        if ready or reason != "backstop":
            logs.emit(
                logs.SweepFinished(
                    route=route.name,
                    reason=reason,
                    dispatch=ready,
                    took_ms=round(took * 1000, 3) if route.ready is not None else 0.0,
                )
            )

    def due(self, runner: Runner) -> float | None:
        """Return in how many seconds the route's backstop sweep is due, ``None`` if it is turned off."""
        if not runner.route.sweep:
            return None
        last_set = self._next.setdefault(runner.route.id, time.monotonic() + runner.route.sweep)
        # a shortened setting is in force at once
        return min(last_set - time.monotonic(), runner.route.sweep)
