"""Whether notifications are heard: the listener, and when the daemon does better without them.

Three things make it poll instead, with the gates closed so that writers need not notify:

- LISTEN delivers nothing, which is allowed while every route's gate is set closed.
- A flood: any role may NOTIFY our channel. The listener hangs up, and listens again after a pause that grows.
- PostgreSQL's queue of notifications fills up, since some listener on that server lags. A full one makes each
  NOTIFY fail, and with it the commit of a writer.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.application_name import application_name
from pgreact.postgres.errors import meaning, pause
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.wakeup.listener import CALM, FULL, Listener

UNDER_FLOOD = 10.0  # seconds without a listener after the first flood, doubled by each that follows
UNDER_FLOOD_CAP = 300.0

Receive = Callable[[int, str], None]


class Hearing:
    """The listener of one connection of the daemon, and what stands in for it."""

    def __init__(
        self, dsn: str, receive: Receive, changed: Callable[[], None], clock: Clock, troubles: Troubles
    ) -> None:
        """Nothing is connected yet; see :meth:`open`.

        Args:
            dsn: Straight to the primary server.
            receive: Gets each notification.
            changed: Is called when :attr:`muted` has changed.
            clock: Measures.
            troubles: Where it is reported that notifications are not heard.
        """
        self.muted: str | None = None  # why notifications are not heard, or must not be sent
        self.works = True  # LISTEN delivers, as far as that could be tried
        self.listener: Listener | None = None
        self._dsn = dsn
        self._receive = receive
        self._changed = changed
        self._clock = clock
        self._troubles = troubles
        self._muted_at = 0.0
        troubles.note("notifications", None)
        self._heard_since = 0.0
        self._floods = 0

    async def open(self) -> Listener:
        """Connect and LISTEN.

        Raises:
            SessionLost: The server cannot be reached, or is a replica.
        """
        self.listener = await Listener.open(self._dsn, application_name("listener"), self._receive)
        return self.listener

    async def close(self) -> None:
        """Hang up."""
        listener, self.listener = self.listener, None
        if listener is not None:
            await listener.session.close()

    def fail(self, reason: str) -> None:
        """LISTEN does not deliver, and need not."""
        self.works = False
        self.muted = reason

    async def prove_alive(self, other: Session | None) -> None:
        """Make sure that the listener, and another session if there is one, still answers.

        Raises:
            SessionLost: It does not.
        """
        if self.listener is None:
            if other is not None:
                await other.answers()
            return
        await self.listener.prove_alive(other)
        self.judge_usage()

    @property
    def hurried(self) -> bool:
        """Whether the queue of notifications is to be looked at more often."""
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
            await self._sit_out(listener)

    async def _sit_out(self, listener: Listener) -> None:
        """Do without a listener for a while, then listen again."""
        calm = self._clock.monotonic() - self._heard_since > UNDER_FLOOD_CAP
        self._floods = 1 if calm else self._floods + 1
        wait = min(UNDER_FLOOD * 2 ** (self._floods - 1), UNDER_FLOOD_CAP)
        self.listener = None
        listener.session.abandon()  # what is still on its way is of no use
        self._mute(f"a flood of notifications; it listens again in {wait:g} s")
        await asyncio.sleep(wait)
        for failures in itertools.count(1):
            try:
                await (await self.open()).session.pin_names()
                break
            except Exception as error:  # noqa: BLE001 - the others' sessions tell whether the server is gone
                await self.close()
                await asyncio.sleep(pause(self._clock, meaning(error), failures))
        self._heard_since = self._clock.monotonic()
        self._unmute()

    def judge_usage(self) -> None:
        """Do without notifications while PostgreSQL's queue of them is filling up."""
        usage = self.listener.queue_usage if self.listener else 0.0
        if usage > FULL and self.muted is None:
            self._mute(
                f"PostgreSQL's queue of notifications is {usage:.0%} full: end the session that listens and "
                "sits in a transaction, on any database of this server"
            )
        elif usage < CALM and self.works and self.muted is not None:
            self._unmute()

    def _mute(self, reason: str) -> None:
        self._muted_at = self._clock.monotonic()
        self.muted = reason
        logs.emit(logs.ListenerPaused(reason=reason))
        self._troubles.note("notifications", reason)
        self._changed()

    def _unmute(self) -> None:
        self.muted = None
        logs.emit(logs.ListenerResumed(paused_s=round(self._clock.monotonic() - self._muted_at, 3)))
        self._troubles.note("notifications", None)
        self._changed()
