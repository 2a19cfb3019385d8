"""A worker's sessions with PostgreSQL: opened when first used, kept between runs, replaced when they break.

Every failure of a statement is a ``NotGuarded``, and :func:`meant` says what it means. A statement that takes
longer than its session's timeout is cancelled, or its connection is closed.
"""

import contextlib
import functools
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from celery.exceptions import SoftTimeLimitExceeded
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, TransactionStatus

from pgreact.errors import NotGuarded, PgreactError, SessionLost
from pgreact.postgres import conninfo
from pgreact.postgres.application_name import application_name
from pgreact.postgres.connect import error_line
from pgreact.postgres.errors import ErrorKind, classify, describe
from pgreact.postgres.queries import query
from pgreact.quantities import format_duration

# Unless the DSN has its own: a client or server that vanished is noticed after about 10 s.
_LIVENESS = {
    "connect_timeout": "10",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

TIMEOUT = 10.0  # seconds that a statement may take: at most these,
_SHARE = 6  # at most this part of a lease,
_LEAST = 0.5  # and always these
_BEFORE_LEASE = 5.0  # as long as the lease is not known
_CANCEL = 2.0  # seconds in which a cancelled statement must end
# What a replica answers to a statement that writes, and to "read write": it passes with the failover.
_REPLICA = {"25006", "0A000"}
# These reveal defaults of the server, database or role that our statements cannot work with.
_DEFAULTS_CHANGED = {"25006", "40001", "57014", "55P03"}
_PARAMETER = re.compile(r"%\((\w+)\)s")
T = TypeVar("T")


def meant(error: BaseException) -> ErrorKind:
    """Return what an error of a worker's statement means.

    Args:
        error: A :class:`NotGuarded`, whose cause is the error of the server or the driver, or any other.
    """
    cause = error.__cause__ if isinstance(error, NotGuarded) and error.__cause__ else error
    if isinstance(cause, PgreactError) and cause is not error:
        return meant(cause)
    return ErrorKind.TRANSIENT if _state(cause) in _REPLICA else classify(cause)


def _state(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Limits how long a statement takes; is dropped without a warning by a process that inherited it."""

    opened_by: int | None = None
    timeout = TIMEOUT
    timed_out = False  # the last statement was cancelled
    _adapter: AnyTransformer | None = None  # keeps the dumpers and loaders of its types

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self.opened_by == getpid():
            super().__del__()

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server's answer; after :attr:`timeout` seconds cancel the statement.

        ``statement_timeout`` would not do: it does not count the wait for a pooler's connection, is no help
        against a frozen server, and to set it costs each statement something.

        Raises:
            TimeoutError: The statement goes on after it was cancelled.
        """
        self.timed_out = False
        try:
            return super().wait(_until(gen, time.monotonic() + self.timeout), *args, **kwargs)
        except _TimedOut:
            self.timed_out = True
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL)
        try:
            # the statement may have ended just now: then this returns its answer
            return super().wait(_until(gen, time.monotonic() + _CANCEL), *args, **kwargs)
        except _TimedOut:
            raise TimeoutError(f"no answer in {format_duration(self.timeout)}") from None

    def run(self, text: bytes, names: Sequence[str], values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows.

        A cursor does the same, in twice the time: a task waits for its start, and a worker spends a tenth of
        its time for a job there. The statement is unnamed: none stays prepared in a session that a pooler may
        give to another client.

        Args:
            text: The statement, with ``$1`` and so on.
            names: Those of its parameters, in order.
            values: By name.

        Raises:
            psycopg.Error: The server refused it, the connection broke, or a value cannot be sent.
        """
        if self._adapter is None:
            self._adapter = Transformer(self)
        adapter = self._adapter
        given = adapter.dump_sequence([values[name] for name in names], [PyFormat.AUTO] * len(names))
        self.pgconn.send_query_params(text, given, param_types=adapter.types, param_formats=adapter.formats)
        result = self.wait(generators.execute(self.pgconn))[-1]
        if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
        adapter.set_pgresult(result)
        return adapter.load_rows(0, result.ntuples, tuple)


def _is_text(name: str) -> bool:
    """Return whether this is a statement itself, not the name of a query."""
    return " " in name or name in {"commit", "rollback"}


@functools.cache
def _single_statement(name: str) -> tuple[bytes, list[str]] | None:
    """Return a query as libpq takes it, and its parameters' names; ``None``: it has several statements."""
    if _is_text(name) or ";" in (text := query(name)):
        return None
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).encode(), names


class _TimedOut(Exception):
    """The time for a statement is over."""


def _until(gen: PQGen[T], deadline: float) -> PQGen[T]:
    """Wrap the generator that psycopg waits for, which it resumes every 0.1 s at least."""
    try:
        # if a wait for it was cut short, it has run already: then this asks again what it waits for
        wanted = gen.send(None)  # type: ignore[arg-type]
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _TimedOut
            wanted = gen.send(ready)
    except StopIteration as end:
        answer: T = end.value
        return answer


class Session:
    """A connection in autocommit mode whose statements include ``begin`` and ``commit``.

    Any thread may use it, one at a time, in the process that connected it.
    """

    def __init__(self, dsn: str, timeout: float = TIMEOUT) -> None:
        """Prepare; the first statement connects.

        Args:
            dsn: As libpq reads it.
            timeout: Seconds a statement may take.
        """
        self.timeout = timeout
        self._dsn = dsn
        self._connection: _Connection | None = None
        self._cursor: psycopg.ClientCursor[tuple[Any, ...]] | None = None
        self._pins: str | None = None  # the settings that go before each statement; None: to be looked up
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

    def execute(self, *names: str, **values: object) -> Any:
        """Run statements that need nothing from the session, such as those that begin a transaction.

        A connection kept from an earlier run may have broken meanwhile, or lead to a server that is a replica
        by now: then this connects again.

        Args:
            *names: Queries under ``sql/queries``, or statements without parameters.
            **values: Their parameters.

        Returns:
            The last row, or its value if it has one column.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: libpq cannot read the DSN.
        """
        if self._connection is not None:
            try:
                return self.execute_connected(*names, **values)
            except NotGuarded as error:
                cause = error.__cause__
                if isinstance(cause, TimeoutError) or not (
                    meant(error) is ErrorKind.LOST or _state(cause) in _REPLICA
                ):
                    raise
            self.close()
        self._connect()
        return self.execute_connected(*names, **values)

    def execute_pinned(self, name: str, **values: object) -> Any:
        """Run one statement in a transaction of its own, with the settings it needs; else as :meth:`execute`.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: libpq cannot read the DSN.
        """
        try:
            if self._pins is None:
                self._pins = self.execute("set local statement_timeout = 0", "worker_settings")
            return self.execute(*([self._pins] if self._pins else []), name, **values)
        except NotGuarded as error:
            if _state(error.__cause__) in _DEFAULTS_CHANGED:
                self._pins = None
            raise

    def execute_connected(self, *names: str, **values: object) -> Any:
        """Run statements in a transaction that :meth:`execute` began; never connect again.

        Raises:
            NotGuarded: The server refuses, or the connection is gone: then :attr:`connected` is false.
        """
        rows = self._rows(names, values)
        return None if not rows else rows[-1][0] if len(rows[-1]) == 1 else rows[-1]

    def fetch_all(self, name: str) -> list[tuple[Any, ...]]:
        """Run a query without parameters in a transaction of its own; return its rows.

        Raises:
            NotGuarded: The server cannot be reached, or refuses.
            ConfigError: libpq cannot read the DSN.
        """
        if self._connection is None:
            self._connect()
        return self._rows((name,), {})

    def _rows(self, names: Sequence[str], values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._cursor is None:
            raise NotGuarded("the connection to PostgreSQL is gone") from SessionLost("it is closed")
        self._connection.timeout = self.timeout
        try:
            if len(names) == 1 and (single := _single_statement(names[0])):
                return self._connection.run(*single, values)
            text = ";\n".join(name if _is_text(name) else query(name) for name in names)
            # The client merges the parameters: all statements go in one message, and none stays prepared in a
            # session that a pooler may give to another client.
            cursor = self._cursor
            cursor.execute(text.encode(), values or None)
            rows: list[tuple[Any, ...]] = []
            while True:
                if cursor.pgresult and cursor.pgresult.status == ExecStatus.TUPLES_OK:
                    rows = cursor.fetchall()
                if not cursor.nextset():
                    return rows
        except psycopg.Error as error:
            timed_out, where = self._connection.timed_out, conninfo.redacted(self._dsn)
            if not self.usable:
                self.close()
            text = (
                f"{where}: no answer in {format_duration(self.timeout)}"
                if timed_out
                else error_line(error, where)
            )
            raise NotGuarded(text) from error
        except SoftTimeLimitExceeded:
            raise  # of the task: it has nothing to do with the statement
        except Exception as error:
            self.close()  # part of the answer may still be unread
            raise NotGuarded(f"{conninfo.redacted(self._dsn)}: {describe(error)}") from error

    def roll_back(self) -> None:
        """End the transaction, if there is one; if that fails, close the connection."""
        if not self.usable:
            self.close()
        elif self._connection and self._connection.info.transaction_status is not TransactionStatus.IDLE:
            try:
                self.execute_connected("rollback")
            except NotGuarded:
                self.close()

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        connection, self._connection, self._cursor, self._pins = self._connection, None, None, None
        if connection is None:
            return
        if self._pid == os.getpid():
            connection.close()
        else:
            # to close it here would end the session of the process that we were forked from
            INHERITED.append(connection)

    def _connect(self) -> None:
        where = conninfo.redacted(self._dsn)
        given = conninfo.resolve(self._dsn)
        options: dict[str, Any] = {key: value for key, value in _LIVENESS.items() if key not in given}
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
            raise NotGuarded(error_line(error, where)) from error
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            raise NotGuarded(f"{where}: {describe(error)}") from error


class SessionPool:
    """The sessions of a process with one database: as many as its threads use at a time."""

    def __init__(self, dsn: str) -> None:
        """Prepare; the first statement connects. ``dsn`` is as libpq reads it."""
        self.dsn = dsn
        self.max_idle = 1  # sessions that stay open between runs
        self.timeout = _BEFORE_LEASE  # seconds a statement may take
        self._idle: deque[Session] = deque()

    def limit_by(self, lease: float) -> None:
        """Let no statement take longer than a part of a lease.

        Args:
            lease: Its seconds.
        """
        self.timeout = max(_LEAST, min(TIMEOUT, lease / _SHARE))

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Lend a session, whose connection may have broken since its last use."""
        # the methods of deque are atomic: a fork could leave a lock locked
        try:
            session = self._idle.pop()
        except IndexError:
            session = Session(self.dsn)
        session.timeout = self.timeout
        try:
            yield session
        finally:
            session.roll_back()
            if len(self._idle) < self.max_idle:
                self._idle.append(session)
            else:
                session.close()

    def close(self) -> None:
        """Close the sessions that are not lent."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def disown(self) -> None:
        """Leave the sessions to the process that this one was forked from."""
        INHERITED.extend(self._idle)
        self._idle = deque()


# Connections inherited by a fork: kept, so that the garbage collector closes none of them.
INHERITED: list[object] = []
