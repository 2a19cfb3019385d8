"""One asyncpg session of the daemon, which says plainly when it is gone."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Never, Self, cast

import asyncpg

from pgreact.errors import SessionLost
from pgreact.postgres import conninfo
from pgreact.postgres.errors import Meaning, meaning, said
from pgreact.postgres.session_settings import SESSION_SETTINGS, pin
from pgreact.quantities import short

# A vanished host frees its locks after idle + interval * count = 10 s; see "Leadership" in docs/protocols.md.
# Set one by one after connecting: a pooler refuses them as start-up parameters with an obscure message.
_GUARDS = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # a backend that waits in a lock otherwise never looks whether its client is still there
    "client_connection_check_interval": "2000",
    "idle_in_transaction_session_timeout": "60000",
    # what the daemon writes is for people to read; a crash of the server may forget the last second of it
    "synchronous_commit": "off",
}
CONNECT_TIMEOUT = 10.0
REPLY_TIMEOUT = 5.0


class Session:
    """A connection, with one user at a time, whose every way of ending is :class:`SessionLost`."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection.add_termination_listener(self._ended)

    @classmethod
    async def open(cls, dsn: str, role: str, *, idle_limit: float = 0, direct: bool = True) -> Self:
        """Connect.

        Args:
            dsn: As libpq reads it.
            role: The session's ``application_name``, which ``pg_stat_activity`` shows.
            idle_limit: Seconds without a word from us after which the server ends the session; 0: never.
            direct: It is known that no pooler is between, which would hand the session to other clients with
                what was set in it. Otherwise :meth:`pin_names` is to be called once it is known.

        Raises:
            SessionLost: It cannot be reached, or refuses.
            ConfigError: The DSN is none.
        """
        arguments = {"timeout": CONNECT_TIMEOUT, **conninfo.for_asyncpg(dsn)}
        try:
            connection = await asyncpg.connect(statement_cache_size=20, **arguments)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ssl.SSLError) as error:
            raise SessionLost(f"cannot connect to {conninfo.shown(dsn)}: {_reason(error)}") from None
        session = cls(connection)
        settings = {
            **SESSION_SETTINGS,
            **_GUARDS,
            "application_name": role,
            "idle_session_timeout": str(int(idle_limit * 1000)),
        }
        if not direct:
            del settings["search_path"]
        try:
            await session.fetch(pin(settings, local=False))
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a session with other settings is of no use
            session.abandon()
            raise SessionLost(f"cannot set up a session: {said(error)}") from None
        except BaseException:
            session.abandon()
            raise
        return session

    async def fetch(self, sql: str, *args: object, timeout: float = REPLY_TIMEOUT) -> list[asyncpg.Record]:
        """Run one statement.

        Args:
            sql: Its text.
            *args: Its parameters.
            timeout: Seconds for the answer, after which the session is in doubt and so lost.

        Raises:
            SessionLost: The session is gone or in doubt.
            Exception: The server refused this statement, or its answer cannot be read; the session lives.
                :func:`pgreact.postgres.errors.meaning` tells which.
        """
        async with self._turn, self._certain(timeout):
            return await self._connection.fetch(sql, *args)

    async def value(self, sql: str, *args: object, timeout: float = REPLY_TIMEOUT) -> Any:
        """Run one statement and return the first column of its first row, ``None`` without rows."""
        rows = await self.fetch(sql, *args, timeout=timeout)
        return rows[0][0] if rows else None

    async def pin_names(self) -> None:
        """Let names without a schema mean PostgreSQL's own, whatever database and role have as default.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused.
        """
        await self.fetch(pin({"search_path": SESSION_SETTINGS["search_path"]}, local=False))

    async def answers(self) -> None:
        """Make sure that the server answers; that it refuses, say cancels, is an answer, too.

        Raises:
            SessionLost: It does not.
        """
        try:
            await self.fetch("select 1")
        except SessionLost:
            raise
        except Exception:  # noqa: BLE001, S110 - refused or unreadable, it is an answer
            pass

    async def boolean_query(self, sql: str, timeout: float) -> bool:
        """Ask a question that a user wrote: read only, and no longer than the time-out.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused it, or its answer cannot be read.
        """
        async with self._turn, self._certain(timeout + REPLY_TIMEOUT):
            transaction = self._connection.transaction(readonly=True)
            await transaction.start()
            try:
                await self._connection.execute(
                    f"set local statement_timeout = {int(timeout * 1000)}; set local search_path to default"
                )
                return bool(await self._connection.fetchval(sql))
            finally:
                await transaction.rollback()  # what the question set in this session goes with it

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Let what is run inside be one transaction, which an error or a cancellation rolls back.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused to commit, or what was raised inside.
        """
        await self.fetch("begin")
        try:
            yield
            await self.fetch("commit")
        except Exception:
            await self._roll_back()
            raise
        except BaseException:
            self.abandon()
            raise

    async def _roll_back(self) -> None:
        """End a transaction that failed, whether its commit was refused or never sent."""
        try:
            await self.fetch("rollback")
        except SessionLost:
            pass
        except Exception:  # noqa: BLE001 - nobody can tell what the next statement would be part of
            self.abandon()

    @contextlib.asynccontextmanager
    async def _certain(self, timeout: float) -> AsyncIterator[None]:
        """Let nobody go on with a session whose state is in doubt."""
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError:
            self.abandon()
            raise SessionLost(f"no answer from PostgreSQL in {short(timeout)}") from None
        except Exception as error:
            if self._connection.is_closed() or meaning(error) is Meaning.LOST:
                self.abandon()
                raise SessionLost(_reason(error)) from None
            raise
        except asyncio.CancelledError:
            self.abandon()  # in the middle of a statement
            raise

    async def listen(self, channel: str, callback: Callable[[int, str], None]) -> None:
        """LISTEN; the callback gets the sender's process id and the payload, and must not wait.

        Raises:
            SessionLost: The session is gone.
            asyncpg.PostgresError: LISTEN is refused.
        """

        def received(_connection: object, pid: int, _channel: str, payload: object) -> None:
            callback(pid, str(payload))

        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await self._connection.add_listener(channel, cast("Any", received))
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise SessionLost(f"LISTEN failed: {_reason(error)}") from None

    async def watch(self) -> Never:
        """Wait until the session is lost.

        Raises:
            SessionLost: It is.
        """
        raise SessionLost(await asyncio.shield(self.lost))

    @property
    def version(self) -> str:
        """PostgreSQL's version, like ``18.4``."""
        found = self._connection.get_server_version()
        return f"{found.major}.{found.micro}"

    async def close(self) -> None:
        """End the session, politely for a second."""
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._connection.close(timeout=1)
        self.abandon()

    def abandon(self) -> None:
        """End the session without a word."""
        self._connection.terminate()

    def _ended(self, *_: object) -> None:
        if not self.lost.done():
            self.lost.set_result("PostgreSQL ended the session")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return said(error)
