"""The sessions of the pages: at most four, each statement bounded, reads in read-only transactions."""

import contextlib
import queue
import threading
from collections.abc import Iterator

import psycopg

from pgreact.errors import PgreactError
from pgreact.postgres import conninfo
from pgreact.postgres.application_name import application_name
from pgreact.postgres.change import Connection
from pgreact.postgres.connect import error_line, open_connection

SESSIONS = 4
STATEMENT_TIMEOUT = 2  # seconds
_BEGIN = (
    f"select set_config('statement_timeout', '{STATEMENT_TIMEOUT}s', true), "
    "set_config('pgreact.actor', %s, true)"
)


class Unreachable(PgreactError):
    """The database cannot be reached, or all sessions are busy."""


class Refused(PgreactError):
    """PostgreSQL refused a statement."""


class Database:
    """The sessions. Threads take one for each transaction.

    Args:
        dsn: A DSN as libpq reads it.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.where = conninfo.redacted(dsn)
        self._free = threading.BoundedSemaphore(SESSIONS)
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run a block in a read-only transaction.

        Raises:
            Unreachable: There is no session.
            Refused: PostgreSQL refused a statement.
        """
        with self._transaction("", writes=False) as connection:
            yield connection

    @contextlib.contextmanager
    def acting(self, actor: str) -> Iterator[Connection]:
        """Run a block in a transaction that may write.

        Args:
            actor: The user, for the event log.

        Raises:
            Unreachable: There is no session.
            Refused: PostgreSQL refused a statement; nothing changed.
        """
        with self._transaction(actor, writes=True) as connection:
            yield connection

    def close(self) -> None:
        """Close the idle sessions."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextlib.contextmanager
    def _transaction(self, actor: str, *, writes: bool) -> Iterator[Connection]:
        if not self._free.acquire(timeout=STATEMENT_TIMEOUT):
            raise Unreachable(f"{self.where}: all {SESSIONS} sessions of the pages are busy")
        connection = None
        try:
            connection = self._connected(writes=writes)
            with connection.transaction():
                connection.execute(_BEGIN.encode(), (actor,))
                yield connection
        except psycopg.Error as error:
            lost = connection is None or connection.broken
            raise (Unreachable if lost else Refused)(error_line(error, self.where)) from error
        finally:
            if connection is not None and not connection.closed:
                self._idle.put(connection)
            self._free.release()

    def _connected(self, *, writes: bool) -> Connection:
        """Return a session that answers: an idle one may have ended with its server."""
        with contextlib.suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                try:
                    connection.read_only = not writes
                    connection.execute("select")
                except psycopg.Error:
                    connection.close()
                else:
                    return connection
        connection = open_connection(self.dsn, application_name("web"), STATEMENT_TIMEOUT)
        connection.read_only = not writes
        return connection
