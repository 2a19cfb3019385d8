"""Who dispatches: the one daemon whose session holds the lock."""

import asyncio
from typing import Self

import asyncpg

from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres import advisory_lock
from pgreact.postgres.session import Session

TRUST = 5.0  # seconds for which a sign of life is good enough to publish
CONFIRM_TIMEOUT = 3.0


class Candidate:
    """A session that waits for the lock, and holds it from then on."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session = session
        self._clock = clock
        self._alive_at = clock.monotonic()

    @classmethod
    async def open(cls, dsn: str, name: str, clock: Clock) -> Self:
        """Connect.

        Raises:
            SessionLost: The server cannot be reached.
        """
        return cls(await Session.open(dsn, name, idle_limit=advisory_lock.IDLE_LIMIT, direct=False), clock)

    async def try_lead(self, timeout: float = advisory_lock.TIMEOUT) -> bool:
        """Wait for the lock for a while; return whether this session holds it.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused, for example since the schema is missing.
        """
        began = self._clock.monotonic()
        held = await advisory_lock.acquire(self.session, "leader", timeout)
        self.alive(began)
        return held

    async def set_gates(self, route_ids: list[int], height: int) -> asyncpg.Record:
        """Read S of routes, set it, and list its holders, in the one session that may set it.

        Returns:
            What ``pgreact.set_gates`` does.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused. S may have been set all the same: a sequence is not rolled back.
        """
        began = self._clock.monotonic()
        (found,) = await self.session.fetch("select * from pgreact.set_gates($1, $2)", route_ids, height)
        self.alive(began)
        return found

    def alive(self, sent_at: float) -> None:
        """The server answered on this session to something sent at that moment."""
        self._alive_at = max(self._alive_at, sent_at)

    async def confirm(self) -> None:
        """Return once it is certain that no other daemon leads, or will for the length of a publish.

        A leader that was cut off or frozen must not publish before it knows whether it was replaced. What it
        heard less than ``TRUST`` seconds ago is proof enough: the server gives the lock of a vanished client
        to another after 10 s at the earliest, and if it ends the session itself, we are told.

        Raises:
            SessionLost: The session is gone or in doubt.
        """
        if self.session.lost.done():
            raise SessionLost(self.session.lost.result())
        if self._clock.monotonic() - self._alive_at < TRUST:
            return
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                await self.session.answers()
        except TimeoutError:
            self.session.abandon()
            raise SessionLost(f"no answer from PostgreSQL in {CONFIRM_TIMEOUT:g} s") from None
        self.alive(began)
