"""The listener: the session that LISTENs, and proves by notifications to itself that they arrive.

An open socket proves nothing: a pooler in transaction mode accepts LISTEN and delivers nothing, and a network
that swallows packets looks like a quiet one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Self
from uuid import uuid4

import asyncpg

from pgreact.errors import PgreactError, SessionLost
from pgreact.postgres.errors import describe
from pgreact.postgres.session import Session
from pgreact.quantities import format_duration
from pgreact.wakeup.notification import CHANNEL

PROBE_DEADLINE = 5.0
# Any role may NOTIFY the channel, at any rate, and each notification costs the event loop about 10 us. They
# may take 1 % of it for ever, and 0.2 s at once. The gates of routes not set open close long before that.
FLOOD = 1000  # notifications a second
FLOOD_BURST = 20_000  # beyond that
# PostgreSQL's queue is as full as its slowest listener is late, on any database of the server. A full queue
# makes each NOTIFY fail, and with it a writer's commit.
FULL = 0.5
CALM = 0.25


class Listener:
    """LISTENs to the channel, and to a private one for its probes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._private = f"pgreact_{uuid4().hex}"
        self.delivers = True
        self.probe_s: float | None = None  # the round trip of the last probe that came back, in seconds
        self.queue_usage = 0.0  # of the server's queue of notifications, 0 to 1, at the last probe
        self.flooded = asyncio.Event()
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._allowed = float(FLOOD_BURST)  # notifications until it is a flood
        self._counted_at = time.monotonic()

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
        session = await Session.open(dsn, name, direct=False)
        try:
            await refuse_replica(session)
            listener = cls(session)

            def counted(pid: int, payload: str) -> None:
                listener._count_one()
                receive(pid, payload)

            try:
                await session.listen(CHANNEL, counted)
                await session.listen(listener._private, listener._probe_arrived)
            except asyncpg.PostgresError:
                listener.delivers = False
        except BaseException:
            session.terminate()
            raise
        return listener

    async def probe(self, through: Session | None = None) -> float:
        """Send a notification to the private channel and wait until it arrives.

        Args:
            through: The session that sends it, which is thereby proved alive, too; ``None``: the listener's.

        Returns:
            Seconds of the round trip.

        Raises:
            SessionLost: One of the sessions is gone, or nothing arrived before the deadline.
            Exception: The server answered, but refused, for example since its queue is full.
        """
        if not self.delivers:
            raise NotDelivered("LISTEN is refused")
        token = uuid4().hex
        arrived = self._awaited[token] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_DEADLINE):
                self.queue_usage = await (through or self.session).value(
                    "select pg_notification_queue_usage() from pg_notify($1, $2)", self._private, token
                )
                await arrived
        except TimeoutError:
            limit = format_duration(PROBE_DEADLINE)
            raise NotDelivered(f"a notification to itself did not arrive in {limit}") from None
        except asyncpg.ProgramLimitExceededError:
            self.queue_usage = 1.0
            raise
        finally:
            del self._awaited[token]
        self.probe_s = time.monotonic() - began
        return self.probe_s

    async def prove_alive(self, through: Session | None = None) -> None:
        """Make sure that the listener's session, and the other if given, still answers and delivers.

        Raises:
            SessionLost: One does not.
        """
        if self.delivers:
            try:
                await self.probe(through)
            except SessionLost:
                raise
            except Exception:  # noqa: BLE001, S110 - refused, say cancelled: then an answer will have to do
                pass
            else:
                return
        for session in filter(None, (self.session, through)):
            await session.ping()

    def _count_one(self) -> None:
        now = time.monotonic()
        self._allowed = min(FLOOD_BURST, self._allowed + FLOOD * (now - self._counted_at)) - 1
        self._counted_at = now
        if self._allowed < 0:
            self.flooded.set()

    def _probe_arrived(self, _pid: int, token: str) -> None:
        awaited = self._awaited.get(token)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)


class NotDelivered(SessionLost):
    """The session answers, yet delivers no notifications."""


class Replica(SessionLost):
    """The server only replays another one's changes: it has no locks and no notifications of its own."""


async def refuse_replica(session: Session) -> None:
    """Make sure that the server is a primary.

    Raises:
        Replica: It is not.
        SessionLost: The session is gone.
    """
    try:
        replica = await session.value("select pg_is_in_recovery()")
    except asyncpg.PostgresError as error:
        raise SessionLost(f"cannot tell whether the server is a replica: {describe(error)}") from None
    if replica:
        raise Replica(
            "the server is a replica (pg_is_in_recovery), where LISTEN does not work: point dsn at the "
            "primary, or name all servers and target_session_attrs=read-write"
        )


def pooler_suspected(error: NotDelivered) -> PgreactError:
    """Return the error of a first probe that did not arrive."""
    return PgreactError(
        f"LISTEN works but nothing arrives: {error}. dsn seems to lead to a pooler in transaction mode "
        '(like PgBouncer); set "listen_dsn" (PGREACT_LISTEN_DSN) to PostgreSQL itself'
    )
