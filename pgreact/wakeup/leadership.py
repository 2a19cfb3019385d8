"""Leadership: the one daemon whose session holds the lock dispatches."""

import asyncio
from typing import Self

import asyncpg

from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres import advisory_lock
from pgreact.postgres.session import Session
from pgreact.quantities import format_duration

TRUST = 5.0  # seconds since the server's last answer within which a publish needs no question
CONFIRM_TIMEOUT = 3.0


class Candidate:
    """A session that waits for the leader's lock, and holds it from then on."""

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
        return cls(await Session.open(dsn, name, idle_timeout=advisory_lock.IDLE_LIMIT, direct=False), clock)

    async def try_lead(self, timeout: float = advisory_lock.TIMEOUT) -> bool:
        """Wait for the lock; return whether this session holds it.

        Args:
            timeout: Seconds.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused, for example since the schema is missing.
        """
        began = self._clock.monotonic()
        held = await advisory_lock.acquire(self.session, "leader", timeout)
        self.alive(began)
        return held

    async def set_gates(self, route_ids: list[int], sequence_value: int) -> asyncpg.Record:
        """Read and set the sequences of routes, and list their holders, in the one session that may set them.

        Args:
            route_ids: The routes.
            sequence_value: ``gate.OPEN`` or ``gate.CLOSED``.

        Returns:
            The row of ``pgreact.set_gates``.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused. A sequence may be set all the same: it is not rolled back.
        """
        began = self._clock.monotonic()
        (row,) = await self.session.fetch(
            "select * from pgreact.set_gates($1, $2)", route_ids, sequence_value
        )
        self.alive(began)
        return row

    def alive(self, sent_at: float) -> None:
        """Take note that the server answered on this session.

        Args:
            sent_at: When the statement was sent.
        """
        self._alive_at = max(self._alive_at, sent_at)

    async def confirm(self) -> None:
        """Return once it is certain that no other daemon leads, or will for the length of a publish.

        A leader that was cut off or frozen must not publish before it knows whether it was replaced. An
        answer less than ``TRUST`` seconds old is proof enough: the server gives the lock of a vanished client
        to another after 10 s at the earliest, and the driver reports a session that the server ends.

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
                await self.session.ping()
        except TimeoutError:
            self.session.terminate()
            raise SessionLost(f"no answer from PostgreSQL in {format_duration(CONFIRM_TIMEOUT)}") from None
        self.alive(began)
