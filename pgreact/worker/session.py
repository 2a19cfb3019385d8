"""One connection of a worker, opened when it is first used, kept between runs and replaced when it broke."""

import contextlib
import os
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

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
    """The locks of a flight cannot be had, so its task does not run."""


class Session:
    """A connection in autocommit mode that says ``begin`` and ``commit`` itself.

    It may be used by any thread, by one at a time, and by no other process than the one that connected it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
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
        if self._connection is None:
            raise NotGuarded("the connection to PostgreSQL is gone")
        text = ";\n".join(name if name in {"commit", "rollback"} else query(name) for name in names)
        try:
            # Parameters are merged here, not by the server: all statements go in one message, and nothing
            # is left prepared in a session that a pooler may hand to somebody else.
            cursor = psycopg.ClientCursor(self._connection)
            cursor.execute(text.encode(), values or None)
            last = None
            while True:
                if cursor.description is not None:
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
        connection, self._connection = self._connection, None
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
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                application_name=application_name("worker"),
                client_encoding="utf8",
                **options,
            )
        except psycopg.Error as error:
            raise NotGuarded(readable(error, where)) from error


# Connections of other processes that fork left in this one: kept, so that nothing tidies them away.
_ABANDONED: list[object] = []
