"""Connections of a worker: opened when first used, kept between runs, replaced when they broke."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from pgreact.database import conninfo
from pgreact.database.connect import readable
from pgreact.errors import PgreactError
from pgreact.identity import application_name
from pgreact.shipped import query

# Unless the DSN says otherwise. A server that vanished is noticed after about 10 s, as it notices us.
_GUARDS = {
    "connect_timeout": "10",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


class NotGuarded(PgreactError):
    """The locks of a flight, or the attempt of a job, cannot be had: so its task does not run."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Does not warn that it was left open by a process that only inherited it from a fork."""

    opened_by: int | None = None

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self.opened_by == getpid():
            super().__del__()


class Session:
    """A connection in autocommit mode that says ``begin`` and ``commit`` itself.

    It may be used by any thread, by one at a time, and by no other process than the one that connected it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: _Connection | None = None
        self._cursor: psycopg.ClientCursor[tuple[Any, ...]] | None = None
        self._pid = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether it is connected, as far as we know, and not in the middle of a statement."""
        connection = self._connection
        return connection is not None and connection.info.transaction_status in {
            TransactionStatus.IDLE,
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        }

    @property
    def connected(self) -> bool:
        """Whether it is connected, as far as we know."""
        return self._connection is not None

    def first(self, *names: str, **values: object) -> Any:
        """Run what depends on nothing before it.

        A connection kept from an earlier run may have broken meanwhile, or lead to a server that is a replica
        by now: then it is all done again, on a new one.

        Args:
            *names: Queries under ``sql/queries``, or statements without parameters.
            **values: Their parameters.

        Returns:
            The first column of the last row.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: The DSN is none.
        """
        if self._connection is not None:
            with contextlib.suppress(NotGuarded):
                return self.then(*names, **values)
            self.close()
        self._connect()
        return self.then(*names, **values)

    def then(self, *names: str, **values: object) -> Any:
        """Run what goes on in a transaction that :meth:`first` began; see there.

        Raises:
            NotGuarded: The server refuses, or the connection is gone: then :attr:`connected` is false.
        """
        if self._connection is None or self._cursor is None:
            raise NotGuarded("the connection to PostgreSQL is gone")
        text = ";\n".join(name if name in {"commit", "rollback"} else query(name) for name in names)
        try:
            # Parameters are merged here, not by the server: all statements go in one message, and nothing
            # is left prepared in a session that a pooler may hand to somebody else.
            cursor = self._cursor
            cursor.execute(text.encode(), values or None)
            last = None
            while True:
                if cursor.pgresult and cursor.pgresult.status == ExecStatus.TUPLES_OK:
                    last = cursor.fetchall()[-1][0]
                if not cursor.nextset():
                    return last
        except psycopg.Error as error:
            if self._connection.closed:
                self.close()
            raise NotGuarded(readable(error, conninfo.shown(self._dsn))) from error

    def roll_back(self) -> None:
        """End the transaction, if there is one; close the connection if it cannot be told to."""
        if not self.usable:
            self.close()
        elif self._connection and self._connection.info.transaction_status is not TransactionStatus.IDLE:
            try:
                self.then("rollback")
            except NotGuarded:
                self.close()

    def close(self) -> None:
        """End the connection; the next use opens another."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is None:
            return
        if self._pid == os.getpid():
            connection.close()
        else:
            # a word from us would end the session of the process that we were forked from
            _ABANDONED.append(connection)

    def _connect(self) -> None:
        where = conninfo.shown(self._dsn)
        given = conninfo.resolve(self._dsn)
        options: dict[str, Any] = {key: value for key, value in _GUARDS.items() if key not in given}
        self._pid = os.getpid()
        try:
            self._connection = _Connection.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                application_name=application_name("worker"),
                client_encoding="utf8",
                **options,
            )
            self._connection.opened_by = self._pid
            self._cursor = psycopg.ClientCursor(self._connection)
        except psycopg.Error as error:
            raise NotGuarded(readable(error, where)) from error


class Sessions:
    """The connections of a process to one database: as many as its threads need at a time."""

    def __init__(self, dsn: str) -> None:
        """Connect to nothing yet; ``dsn`` is as libpq reads it."""
        self.dsn = dsn
        self.keep = 1  # connections that stay open when nobody uses them
        self._idle: deque[Session] = deque()

    @contextlib.contextmanager
    def one(self) -> Iterator[Session]:
        """Lend a connection; it may prove broken when it is used."""
        # deque's own methods are atomic: a lock could be left locked by a fork
        try:
            session = self._idle.pop()
        except IndexError:
            session = Session(self.dsn)
        try:
            yield session
        finally:
            session.roll_back()
            if len(self._idle) < self.keep:
                self._idle.append(session)
            else:
                session.close()

    def close(self) -> None:
        """End the connections that are not in use."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def forget(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        _ABANDONED.extend(self._idle)
        self._idle = deque()


# Connections of other processes that fork left in this one: kept, so that nothing tidies them away.
_ABANDONED: list[object] = []
