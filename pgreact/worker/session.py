"""Connections of a worker: opened when first used, kept between runs, replaced when they broke.

Whatever goes wrong with a statement is a :class:`NotGuarded`, and :func:`meant` says what it means. None
waits longer than its session's bound: what takes longer is cancelled, or its connection is given up.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from celery.exceptions import SoftTimeLimitExceeded
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus

from pgreact.errors import PgreactError, SessionLost
from pgreact.postgres import conninfo
from pgreact.postgres.application_name import application_name
from pgreact.postgres.connect import readable
from pgreact.postgres.errors import Meaning, meaning, said
from pgreact.postgres.queries import query

# Unless the DSN says otherwise. A server that vanished is noticed after about 10 s, as it notices us.
_GUARDS = {
    "connect_timeout": "10",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


BOUND = 10.0  # seconds a statement may take at most, and
_SHARE = 6  # this part of a lease, but never less than
_LEAST = 0.5
_BEFORE_LEASE = 5.0  # as long as the lease is not known
_CANCEL = 2.0  # seconds until a statement that is cancelled must have ended
# What a replica says to a statement that writes, and to "read write": it passes with the failover.
_REPLICA = {"25006", "0A000"}
# By these a server's, a database's or a role's defaults show that they are not what our statements need.
_DEFAULTS_CHANGED = {"25006", "40001", "57014", "55P03"}
T = TypeVar("T")


class NotGuarded(PgreactError):
    """The locks of a flight, or the attempt of a job, cannot be had: so its task does not run."""


def meant(error: BaseException) -> Meaning:
    """Return what an error of a worker's statement means.

    Args:
        error: A :class:`NotGuarded`, which has the server's or the driver's error as its cause, or any other.
    """
    cause = error.__cause__ if isinstance(error, NotGuarded) and error.__cause__ else error
    if isinstance(cause, PgreactError) and cause is not error:
        return meant(cause)
    return Meaning.PASSING if _state(cause) in _REPLICA else meaning(cause)


def _state(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Bounds its waits, and does not warn that a process left it open which only inherited it from a fork."""

    opened_by: int | None = None
    bound = BOUND
    late = False  # the last statement was cancelled

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self.opened_by == getpid():
            super().__del__()

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server's answer; after :attr:`bound` seconds cancel the statement.

        Not by ``statement_timeout``: that does not count the wait for a place in a pooler, nor does it help
        with a server that is frozen, and to set it costs each statement something.

        Raises:
            TimeoutError: The statement does not end when it is cancelled, either.
        """
        self.late = False
        try:
            return super().wait(_until(gen, time.monotonic() + self.bound), *args, **kwargs)
        except _Late:
            self.late = True
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL)
        try:
            # it may have ended just now: then this is its answer
            return super().wait(_until(gen, time.monotonic() + _CANCEL), *args, **kwargs)
        except _Late:
            raise TimeoutError(f"no answer in {self.bound:g} s") from None


class _Late(Exception):
    """The time for a statement is over."""


def _until(gen: PQGen[T], until: float) -> PQGen[T]:
    """Wrap what psycopg waits for: it is asked again each 0.1 s at least."""
    try:
        # it has run before, if a wait for it was cancelled: then this asks it anew what it waits for
        wanted = gen.send(None)  # type: ignore[arg-type]
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                raise _Late
            wanted = gen.send(ready)
    except StopIteration as end:
        answer: T = end.value
        return answer


class Session:
    """A connection in autocommit mode that says ``begin`` and ``commit`` itself.

    It may be used by any thread, by one at a time, and by no other process than the one that connected it.
    """

    def __init__(self, dsn: str, bound: float = BOUND) -> None:
        """Connect to nothing yet.

        Args:
            dsn: As libpq reads it.
            bound: Seconds a statement may take.
        """
        self.bound = bound
        self._dsn = dsn
        self._connection: _Connection | None = None
        self._cursor: psycopg.ClientCursor[tuple[Any, ...]] | None = None
        self._pins: str | None = (
            None  # what goes before each statement; unknown: the defaults are to be asked
        )
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
            The last row, or its value if it has but one.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: The DSN is none.
        """
        if self._connection is not None:
            try:
                return self.then(*names, **values)
            except NotGuarded as error:
                why = error.__cause__
                if isinstance(why, TimeoutError) or not (
                    meant(error) is Meaning.LOST or _state(why) in _REPLICA
                ):
                    raise
            self.close()
        self._connect()
        return self.then(*names, **values)

    def alone(self, name: str, **values: object) -> Any:
        """Run one statement in a transaction of its own, whatever the defaults; see :meth:`first`.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: The DSN is none.
        """
        try:
            if self._pins is None:
                self._pins = self.first("set local statement_timeout = 0", "worker_settings")
            return self.first(*([self._pins] if self._pins else []), name, **values)
        except NotGuarded as error:
            if _state(error.__cause__) in _DEFAULTS_CHANGED:
                self._pins = None
            raise

    def then(self, *names: str, **values: object) -> Any:
        """Run what goes on in a transaction that :meth:`first` began; see there.

        Raises:
            NotGuarded: The server refuses, or the connection is gone: then :attr:`connected` is false.
        """
        rows = self._rows(names, values)
        return None if not rows else rows[-1][0] if len(rows[-1]) == 1 else rows[-1]

    def all(self, name: str) -> list[tuple[Any, ...]]:
        """Run a query without parameters in a transaction of its own; return its rows. See :meth:`first`.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: The DSN is none.
        """
        if self._connection is None:
            self._connect()
        return self._rows((name,), {})

    def _rows(self, names: Sequence[str], values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._cursor is None:
            raise NotGuarded("the connection to PostgreSQL is gone") from SessionLost("it is closed")
        text = ";\n".join(
            name if " " in name or name in {"commit", "rollback"} else query(name) for name in names
        )
        self._connection.bound = self.bound
        try:
            # Parameters are merged here, not by the server: all statements go in one message, and nothing
            # is left prepared in a session that a pooler may hand to somebody else.
            cursor = self._cursor
            cursor.execute(text.encode(), values or None)
            rows: list[tuple[Any, ...]] = []
            while True:
                if cursor.pgresult and cursor.pgresult.status == ExecStatus.TUPLES_OK:
                    rows = cursor.fetchall()
                if not cursor.nextset():
                    return rows
        except psycopg.Error as error:
            late, where = self._connection.late, conninfo.shown(self._dsn)
            if not self.usable:
                self.close()
            text = f"{where}: no answer in {self.bound:g} s" if late else readable(error, where)
            raise NotGuarded(text) from error
        except SoftTimeLimitExceeded:
            raise  # of the task: it has nothing to do with the statement
        except Exception as error:
            self.close()  # nobody knows what was read of the answer, and what not
            raise NotGuarded(f"{conninfo.shown(self._dsn)}: {said(error)}") from error

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
        connection, self._connection, self._cursor, self._pins = self._connection, None, None, None
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
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            raise NotGuarded(f"{where}: {said(error)}") from error


class Sessions:
    """The connections of a process to one database: as many as its threads need at a time."""

    def __init__(self, dsn: str) -> None:
        """Connect to nothing yet; ``dsn`` is as libpq reads it."""
        self.dsn = dsn
        self.keep = 1  # connections that stay open when nobody uses them
        self.bound = _BEFORE_LEASE  # seconds a statement may take
        self._idle: deque[Session] = deque()

    def bound_by(self, lease: float) -> None:
        """Let no statement wait for longer than a part of a lease.

        Args:
            lease: Its seconds.
        """
        self.bound = max(_LEAST, min(BOUND, lease / _SHARE))

    @contextlib.contextmanager
    def one(self) -> Iterator[Session]:
        """Lend a connection; it may prove broken when it is used."""
        # deque's own methods are atomic: a lock could be left locked by a fork
        try:
            session = self._idle.pop()
        except IndexError:
            session = Session(self.dsn)
        session.bound = self.bound
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
