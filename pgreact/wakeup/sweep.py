"""The sweep: looks for work without a signal. NOTIFY is a hint, the sweep is the truth."""

import time

from pgreact import logs
from pgreact.dispatch.dispatcher import Runner
from pgreact.errors import SessionLost
from pgreact.postgres.errors import describe
from pgreact.postgres.session import Session

READY_TIMEOUT = 5.0  # seconds


class Sweeper:
    """Sweeps the routes of one leader's term."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next: dict[int, float] = {}
        self._errors: dict[int, str] = {}

    async def sweep(self, runner: Runner, reason: str) -> None:
        """Signal a route unless its ready query returns false.

        A ready query that fails counts as true: a dispatch too many is harmless, one too few is not.

        Args:
            runner: The route's.
            reason: For the log.

        Raises:
            SessionLost: The session is gone.
        """
        route = runner.route
        began = time.monotonic()
        ready, known = True, False
        if route.ready is not None:
            try:
                ready = known = await self._session.boolean_query(route.ready, READY_TIMEOUT)
                if self._errors.pop(route.id, None):
                    logs.emit(logs.SweepRecovered(route=route.name))
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - a user wrote the query: its result may be anything, too
                text = describe(error)
                if self._errors.get(route.id) != text:
                    logs.emit(logs.SweepFailed(route=route.name, error=text))
                self._errors[route.id] = text
        took = time.monotonic() - began
        self._next[route.id] = time.monotonic() + route.sweep
        if known:
            runner.found(reason)
        elif ready:
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
        """Return the seconds until the route's backstop sweep is due; ``None``: it is turned off."""
        if not runner.route.sweep:
            return None
        at = self._next.setdefault(runner.route.id, time.monotonic() + runner.route.sweep)
        # a setting that was shortened is in force at once
        return min(at - time.monotonic(), runner.route.sweep)
