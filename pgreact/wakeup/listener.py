"""The session that LISTENs, and the proof that it hears."""

import asyncio
import time
from collections.abc import Callable
from typing import Self
from uuid import uuid4

import asyncpg

from pgreact.database.session import Session, said
from pgreact.errors import PgreactError, SessionLost

CHANNEL = "pgreact"
HEARING_DEADLINE = 5.0


class Listener:
    """LISTENs to the channel, and to one of its own for the notification it sends itself.

    An open socket proves nothing: a pooler in transaction mode accepts LISTEN and delivers nothing, and a
    network that swallows packets looks like one where nothing happens.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._private = f"pgreact_{uuid4().hex}"
        self.hears = True
        self._awaited: dict[str, asyncio.Future[None]] = {}

    @classmethod
    async def open(cls, dsn: str, name: str, receive: Callable[[int, str], None]) -> Self:
        """Connect and LISTEN.

        Args:
            dsn: Straight to the primary server.
            name: The session's ``application_name``.
            receive: Gets the sender's process id and the payload of each notification. PostgreSQL holds back
                vacuum and its notify queue for a listener that stalls, so it must only take note.

        Raises:
            SessionLost: The server cannot be reached, or is a replica.
            ConfigError: The DSN is none.
        """
        session = await Session.open(dsn, name)
        try:
            await refuse_replica(session)
            listener = cls(session)
            try:
                await session.listen(CHANNEL, receive)
                await session.listen(listener._private, listener._heard)
            except asyncpg.PostgresError:
                listener.hears = False
        except BaseException:
            session.abandon()
            raise
        return listener

    async def probe(self, through: Session | None = None) -> float:
        """Send a notification to ourselves and wait until it is heard.

        Args:
            through: The session that sends it, which is thereby proved alive, too; ``None``: our own.

        Returns:
            Seconds of the round trip.

        Raises:
            SessionLost: One of the sessions is gone, or nothing was heard before the deadline.
        """
        if not self.hears:
            raise Deaf("LISTEN is refused")
        token = uuid4().hex
        heard = self._awaited[token] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        try:
            async with asyncio.timeout(HEARING_DEADLINE):
                await (through or self.session).fetch("select pg_notify($1, $2)", self._private, token)
                await heard
        except TimeoutError:
            raise Deaf(f"a notification to itself was not heard in {HEARING_DEADLINE:g} s") from None
        except asyncpg.PostgresError as error:
            raise SessionLost(f"cannot notify itself: {said(error)}") from None
        finally:
            del self._awaited[token]
        return time.monotonic() - began

    async def prove_alive(self, through: Session | None = None) -> None:
        """Make sure that our session, and the other if there is one, still answers and delivers.

        Raises:
            SessionLost: It does not.
        """
        if self.hears:
            await self.probe(through)
            return
        for session in filter(None, (self.session, through)):
            await session.fetch("select 1")

    def _heard(self, _pid: int, token: str) -> None:
        awaited = self._awaited.get(token)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)


class Deaf(SessionLost):
    """The session answers, yet delivers no notifications."""


class Replica(SessionLost):
    """The server only replays another one's changes: it has no locks and no notifications of its own."""


async def refuse_replica(session: Session) -> None:
    """Make sure that the server is a primary.

    Raises:
        Replica: It is not.
        SessionLost: The session is gone.
    """
    if await session.value("select pg_is_in_recovery()"):
        raise Replica(
            "the server is a replica (pg_is_in_recovery), where LISTEN does not work: point dsn at the "
            "primary, or name all servers and target_session_attrs=read-write"
        )


def pooler_suspected(error: Deaf) -> PgreactError:
    """Say what a first probe that is not heard means."""
    return PgreactError(
        f"LISTEN works but nothing arrives: {error}. dsn seems to lead to a pooler in transaction mode "
        '(like PgBouncer); set "listen_dsn" (PGREACT_LISTEN_DSN) to PostgreSQL itself'
    )
