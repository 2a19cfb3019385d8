"""A session of the daemon: one asyncpg connection, each failure of which is :class:`SessionLost`."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Never, Self, TypeVar, cast

import asyncpg

from pgreact.errors import SessionLost
from pgreact.postgres import conninfo
from pgreact.postgres.errors import ErrorKind, classify, describe
from pgreact.postgres.session_settings import SESSION_SETTINGS, set_config_statement
from pgreact.quantities import format_duration

# The server frees the locks of a vanished host after idle + interval * count = 10 s; see "Leadership" in
# docs/protocols.md. Set after connecting: a pooler refuses them as start-up parameters.
_LIVENESS = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # without it a backend that waits for a lock does not notice that its client is gone
    "client_connection_check_interval": "2000",
    "idle_in_transaction_session_timeout": "60000",
    # the daemon writes status for people; a crash of the server may lose the last second of it
    "synchronous_commit": "off",
}
CONNECT_TIMEOUT = 10.0
REPLY_TIMEOUT = 5.0

T = TypeVar("T")


class Session:
    """A connection that runs one statement at a time, and raises :class:`SessionLost` however it ends."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection.add_termination_listener(self._ended)

    @classmethod
    async def open(
        cls,
        dsn: str,
        role: str,
        *,
        idle_timeout: float = 0,
        statement_timeout: float = 0,
        direct: bool = True,
    ) -> Self:
        """Connect.

        Args:
            dsn: A DSN as libpq reads it.
            role: The session's ``application_name``, which ``pg_stat_activity`` shows.
            idle_timeout: Seconds without a statement after which the server ends the session; 0: never.
            statement_timeout: Seconds after which the server cancels a statement; 0: never.
            direct: No pooler is in between, which would hand the session with its settings to other clients.
                If that is not known yet, pass false, and call :meth:`set_search_path` once it is.

        Raises:
            SessionLost: The server cannot be reached, or refuses the connection.
            ConfigError: The DSN is invalid.
        """
        arguments = {"timeout": CONNECT_TIMEOUT, **conninfo.for_asyncpg(dsn)}
        try:
            connection = await asyncpg.connect(statement_cache_size=20, **arguments)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ssl.SSLError) as error:
            raise SessionLost(f"cannot connect to {conninfo.redacted(dsn)}: {_reason(error)}") from None
        session = cls(connection)
        settings = {
            **SESSION_SETTINGS,
            **_LIVENESS,
            "application_name": role,
            "idle_session_timeout": str(int(idle_timeout * 1000)),
            "statement_timeout": str(int(statement_timeout * 1000)),
        }
        if not direct:
            del settings["search_path"]
        try:
            await session.fetch(set_config_statement(settings, local=False))
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a session without its settings is of no use
            session.terminate()
            raise SessionLost(f"cannot set up a session: {describe(error)}") from None
        except BaseException:
            session.terminate()
            raise
        return session

    async def fetch(self, sql: str, *args: object, timeout: float = REPLY_TIMEOUT) -> list[asyncpg.Record]:
        """Run one statement.

        Args:
            sql: Its text.
            *args: Its parameters.
            timeout: Seconds to wait for the reply, after which the session counts as lost.

        Raises:
            SessionLost: The session is gone or in doubt.
            Exception: The server refused the statement, or its reply cannot be decoded; the session lives.
                :func:`pgreact.postgres.errors.classify` tells the kind.
        """
        async with self._lock:
            return await self._lost_if_in_doubt(self._connection.fetch(sql, *args), timeout)

    async def value(self, sql: str, *args: object, timeout: float = REPLY_TIMEOUT) -> Any:
        """Run one statement and return the first column of its first row, ``None`` without rows."""
        rows = await self.fetch(sql, *args, timeout=timeout)
        return rows[0][0] if rows else None

    async def set_search_path(self) -> None:
        """Set ``search_path`` to PostgreSQL's catalogue, whatever the defaults of database and role.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused the statement.
        """
        await self.fetch(set_config_statement({"search_path": SESSION_SETTINGS["search_path"]}, local=False))

    async def ping(self) -> None:
        """Check that the server replies; an error, such as a cancelled statement, is a reply.

        Raises:
            SessionLost: The server does not reply.
        """
        try:
            await self.fetch("select 1")
        except SessionLost:
            raise
        except Exception:  # noqa: BLE001, S110 - an error is a reply
            pass

    async def boolean_query(self, sql: str, timeout: float) -> bool:
        """Run a user's query in a read-only transaction; return its value as a boolean.

        Args:
            sql: The query.
            timeout: Seconds that it may take.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused the query, or its reply cannot be decoded.
        """
        async with self._lock:
            return await self._lost_if_in_doubt(self._read_only(sql, timeout), timeout + REPLY_TIMEOUT)

    async def _read_only(self, sql: str, timeout: float) -> bool:
        transaction = self._connection.transaction(readonly=True)
        await transaction.start()
        try:
            await self._connection.execute(
                f"set local statement_timeout = {int(timeout * 1000)}; set local search_path to default"
            )
            return bool(await self._connection.fetchval(sql))
        finally:
            await transaction.rollback()  # undoes settings that the query made

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run a block in a transaction, which an error or a cancellation rolls back.

        Raises:
            SessionLost: The session is gone.
            Exception: The server refused to commit, or the block raised it.
        """
        await self.fetch("begin")
        try:
            yield
            await self.fetch("commit")
        except Exception:
            await self._roll_back()
            raise
        except BaseException:
            self.terminate()
            raise

    async def _roll_back(self) -> None:
        """End a transaction that failed, whether its commit was refused or never sent."""
        try:
            await self.fetch("rollback")
        except SessionLost:
            pass
        except Exception:  # noqa: BLE001 - the next statement might run inside the old transaction
            self.terminate()

    async def _lost_if_in_doubt(self, answer: Awaitable[T], timeout: float) -> T:
        """Await an answer; end the session if it is late, cancelled, or the connection is lost."""
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            self.terminate()
            raise SessionLost(f"no answer from PostgreSQL in {format_duration(timeout)}") from None
        except Exception as error:
            if self._connection.is_closed() or classify(error) is ErrorKind.LOST:
                self.terminate()
                raise SessionLost(_reason(error)) from None
            raise
        except asyncio.CancelledError:
            self.terminate()  # in the middle of a statement
            raise

    async def listen(self, channel: str, callback: Callable[[int, str], None]) -> None:
        """Run LISTEN.

        Args:
            channel: The channel's name.
            callback: Gets the sender's process id and the payload of each notification. It must not block.

        Raises:
            SessionLost: The session is gone.
            asyncpg.PostgresError: The server refused LISTEN.
        """

        def received(_connection: object, pid: int, _channel: str, payload: object) -> None:
            callback(pid, str(payload))

        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await self._connection.add_listener(channel, cast("Any", received))
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise SessionLost(f"LISTEN failed: {_reason(error)}") from None

    async def wait_until_lost(self) -> Never:
        """Wait until the session is lost.

        Raises:
            SessionLost: Always, when it is.
        """
        raise SessionLost(await asyncio.shield(self.lost))

    @property
    def version(self) -> str:
        """PostgreSQL's version, like ``18.4``."""
        found = self._connection.get_server_version()
        return f"{found.major}.{found.micro}"

    async def close(self) -> None:
        """Close the session; terminate it if that takes longer than a second."""
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._connection.close(timeout=1)
        self.terminate()

    def terminate(self) -> None:
        """Close the connection without telling the server."""
        self._connection.terminate()

    def _ended(self, *_: object) -> None:
        if not self.lost.done():
            self.lost.set_result("PostgreSQL ended the session")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return describe(error)
