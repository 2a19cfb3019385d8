"""The listener supervisor: keeps the daemon's listener, and suspends notifications when polling is safer.

===============================  ===========================================================================
notifications are suspended      until
===============================  ===========================================================================
LISTEN delivers nothing, and     the sessions are opened anew
every route's gate is closed
a flood of notifications: any    the listener is connected again, after a pause that grows with each flood
role may NOTIFY the channel
PostgreSQL's queue of            less than a quarter of it is used. A full queue makes each NOTIFY fail, and
notifications is half full:      with it a writer's commit
a listener on that server lags
===============================  ===========================================================================

While they are suspended the leader closes and polls the gates, so that writers need not notify.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.application_name import application_name
from pgreact.postgres.errors import classify, retry_delay
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.quantities import format_duration
from pgreact.wakeup.listener import CALM, FULL, Listener

FLOOD_PAUSE = 10.0  # seconds without a listener after the first flood, doubled by each that follows
FLOOD_PAUSE_CAP = 300.0

Receive = Callable[[int, str], None]


class ListenerSupervisor:
    """Keeps the listener of the daemon's sessions, and decides whether notifications are used."""

    def __init__(
        self, dsn: str, receive: Receive, changed: Callable[[], None], clock: Clock, troubles: Troubles
    ) -> None:
        """Nothing is connected yet; see :meth:`open`.

        Args:
            dsn: Straight to the primary server.
            receive: Gets each notification.
            changed: Is called when :attr:`suspended` has changed.
            clock: Measures.
            troubles: Gets the reason while notifications are suspended.
        """
        self.suspended: str | None = None  # why notifications are not used
        self.delivers = True  # LISTEN delivers, as far as is known
        self.listener: Listener | None = None
        self._dsn = dsn
        self._receive = receive
        self._changed = changed
        self._clock = clock
        self._troubles = troubles
        self._suspended_at = 0.0
        troubles.report("notifications", None)
        self._connected_at = 0.0
        self._floods = 0

    async def open(self) -> Listener:
        """Connect and LISTEN.

        Raises:
            SessionLost: The server cannot be reached, or is a replica.
        """
        self.listener = await Listener.open(self._dsn, application_name("listener"), self._receive)
        return self.listener

    async def close(self) -> None:
        """Close the listener's session."""
        listener, self.listener = self.listener, None
        if listener is not None:
            await listener.session.close()

    def do_without(self, reason: str) -> None:
        """LISTEN delivers nothing, and no writer notifies: poll until the sessions are opened anew."""
        self.delivers = False
        self.suspended = reason

    async def prove_alive(self, other: Session | None) -> None:
        """Make sure that the listener, and another session if given, still answers.

        Raises:
            SessionLost: One does not.
        """
        if self.listener is None:
            if other is not None:
                await other.ping()
            return
        await self.listener.prove_alive(other)
        self.check_queue_usage()

    @property
    def hears(self) -> bool:
        """Whether notifications arrive, as far as is known."""
        listener = self.listener
        return (
            listener is not None and not listener.session.lost.done() and self.delivers and listener.delivers
        )

    @property
    def probe_s(self) -> float | None:
        """The round trip of the last notification that the listener sent to itself, in seconds."""
        return self.listener.probe_s if self.listener is not None else None

    @property
    def hurried(self) -> bool:
        """Whether the queue of notifications is to be checked more often."""
        return self.listener is not None and self.listener.queue_usage > CALM / 2

    async def watch(self) -> None:
        """Follow the listener, for ever.

        Raises:
            SessionLost: Its session is gone.
        """
        while True:
            listener = self.listener
            assert listener is not None
            flooded = asyncio.ensure_future(listener.flooded.wait())
            lost = listener.session.lost
            waited: set[asyncio.Future[Any]] = {flooded, lost}
            try:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            finally:
                flooded.cancel()
            if lost.done():
                raise SessionLost(lost.result())
            await self._sit_out_flood(listener)

    async def _sit_out_flood(self, listener: Listener) -> None:
        """Disconnect the listener for a while, then connect it again."""
        calm = self._clock.monotonic() - self._connected_at > FLOOD_PAUSE_CAP
        self._floods = 1 if calm else self._floods + 1
        wait = min(FLOOD_PAUSE * 2 ** (self._floods - 1), FLOOD_PAUSE_CAP)
        self.listener = None
        listener.session.terminate()  # what is still on its way is of no use
        self._suspend(f"a flood of notifications; the listener connects again in {format_duration(wait)}")
        await asyncio.sleep(wait)
        for failures in itertools.count(1):
            try:
                await (await self.open()).session.set_search_path()
                break
            except Exception as error:  # noqa: BLE001 - the other sessions tell whether the server is gone
                await self.close()
                await asyncio.sleep(retry_delay(self._clock, classify(error), failures))
        self._connected_at = self._clock.monotonic()
        self._resume()

    def check_queue_usage(self) -> None:
        """Suspend notifications while PostgreSQL's queue of them is filling up."""
        usage = self.listener.queue_usage if self.listener else 0.0
        if usage > FULL and self.suspended is None:
            self._suspend(
                f"PostgreSQL's queue of notifications is {usage:.0%} full: end the session that listens and "
                "sits in a transaction, on any database of this server"
            )
        elif usage < CALM and self.delivers and self.suspended is not None:
            self._resume()

    def _suspend(self, reason: str) -> None:
        self._suspended_at = self._clock.monotonic()
        self.suspended = reason
        logs.emit(logs.ListenerSuspended(reason=reason))
        self._troubles.report("notifications", reason)
        self._changed()

    def _resume(self) -> None:
        self.suspended = None
        logs.emit(logs.ListenerResumed(suspended_s=round(self._clock.monotonic() - self._suspended_at, 3)))
        self._troubles.report("notifications", None)
        self._changed()
