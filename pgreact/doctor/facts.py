"""The facts that checks look at: the configuration, the database, the daemons and the workers."""

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
from celery import Celery
from psycopg import sql

from pgreact.broker.publisher import open_app
from pgreact.doctor.checks import CannotSee
from pgreact.doctor.workers import Worker, ask
from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres.application_name import Identity, parse
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.connect import connect
from pgreact.postgres.queries import query
from pgreact.settings import Settings

TIMEOUT = 2.0  # seconds for a statement
HUNG = 5.0  # seconds after which a check's connection is shut down: a frozen server cancels no statement
# no plan may depend on statistics, which lag behind a queue
_LIMITS = sql.SQL(
    "set local transaction_read_only = on; set local statement_timeout = {}; set local enable_seqscan = off; "
    "set local jit = off"
)


class Daemon(NamedTuple):
    """A session of a daemon that leads or stands by."""

    identity: Identity
    pid: int  # of the backend
    role: str
    leads: bool  # it holds the leader's lock


class Facts:
    """Facts for the checks, each read when first needed. A failure to connect is remembered, too."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = contextlib.ExitStack()
        self._open: list[Connection] = []
        self._known: dict[str, list[dict[str, Any]]] = {}  # rows by query
        self._workers: concurrent.futures.Future[list[Worker]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(PgreactError, psycopg.Error):  # the connection may have been shut down
            self._stack.close()

    # ---- the database

    @functools.cached_property
    def _connected(self) -> Connection | PgreactError:
        try:
            return self._stack.enter_context(self.connect(self.settings.dsn))
        except PgreactError as error:
            return error

    @property
    def connection(self) -> Connection:
        """The session on the database.

        Raises:
            CannotSee: The server cannot be reached; the error is its cause.
        """
        if isinstance(self._connected, PgreactError):
            raise CannotSee("no connection: see connection.reachable") from self._connected
        if self._connected.closed:
            raise CannotSee("the connection to PostgreSQL is lost")
        return self._connected

    @contextlib.contextmanager
    def connect(self, dsn: str) -> Iterator[Connection]:
        """Open a session that :meth:`limited` can shut down.

        Raises:
            PgreactError: The server cannot be reached, or refused a statement.
        """
        with connect(dsn) as connection:
            self._open.append(connection)
            try:
                yield connection
            finally:
                self._open.remove(connection)

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """Shut the open sessions down if the block takes too long."""
        timer = threading.Timer(HUNG, self._shut_down)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _shut_down(self) -> None:
        for connection in list(self._open):
            with (
                contextlib.suppress(OSError, psycopg.Error),  # it has been closed just now
                socket.socket(fileno=os.dup(connection.fileno())) as sock,
            ):
                sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A read-only transaction whose statements are limited, on the database.

        Raises:
            CannotSee: The schema is missing.
            psycopg.Error: The server refuses.
        """
        try:
            with self.connection.transaction():
                self.connection.execute(_LIMITS.format(round(TIMEOUT * 1000)))
                yield self.connection
        except (
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.UndefinedFunction,
        ) as error:
            raise CannotSee(str(error.diag.message_primary), "pgreact apply") from error

    def rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """Run a query of ``sql/queries`` whose cost is bounded: once, unless it has parameters.

        Raises:
            CannotSee: The schema is missing.
            psycopg.Error: The server refuses.
        """
        if name in self._known:
            return self._known[name]
        with self.transaction() as connection:
            found = rows(connection, query(name), values or None)
        if not values:
            self._known[name] = found
        return found

    def row(self, name: str, **values: Any) -> dict[str, Any]:
        """Run a query that returns one row."""
        return self.rows(name, **values)[0]

    @functools.cached_property
    def role(self) -> str:
        """The role of the session."""
        return str(self.connection.info.user)

    def monitor_remedy(self) -> str:
        """Return the statement that lets this role see pgreact's tables."""
        return statement("select pgreact.grant_role({}, 'monitor');", self.role)

    def require_statistics(self) -> None:
        """Make sure that this role sees the sessions of others.

        Raises:
            CannotSee: It does not.
        """
        with self.transaction() as connection:
            [(may,)] = connection.execute("select pg_has_role('pg_read_all_stats', 'usage')").fetchall()
        if not may:
            raise CannotSee(
                "grant pg_monitor: this role does not see the sessions of others",
                statement("grant pg_monitor to {};", identifiers=(self.role,)),
            )

    @functools.cached_property
    def sessions(self) -> list[tuple[Identity, dict[str, Any]]]:
        """The sessions of pgreact's daemons and workers: what each name says, and its row."""
        return [
            (identity, row)
            for row in self.rows("doctor_sessions")
            if (identity := parse(row["application_name"])) is not None
        ]

    @property
    def daemons(self) -> list[Daemon]:
        """The daemons: each has one session that leads or stands by."""
        return [
            Daemon(identity, row["pid"], row["role"], row["leads"])
            for identity, row in self.sessions
            if identity.role in {"leader", "standby"}
        ]

    @property
    def leader(self) -> Daemon | None:
        """The daemon that leads."""
        return next((daemon for daemon in self.daemons if daemon.leads), None)

    @functools.cached_property
    def ahead(self) -> float:
        """Seconds that this host's clock is ahead of the database's."""
        with self.transaction() as connection:
            before = time.time()
            [(there,)] = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchall()
            return (before + time.time()) / 2 - float(there)

    # ---- the broker and the workers

    @functools.cached_property
    def _opened(self) -> Celery | ConfigError:
        try:
            return open_app(self.settings.app, self.settings.broker)
        except ConfigError as error:
            return error

    @property
    def app(self) -> Celery:
        """The Celery application.

        Raises:
            ConfigError: None is configured, or it cannot be imported.
        """
        if isinstance(self._opened, ConfigError):
            raise self._opened
        return self._opened

    def ask_workers(self) -> None:
        """Ask the workers in the background: their replies take a second."""
        if self._workers is not None or isinstance(self._opened, ConfigError):
            return
        app, replies = self._opened, concurrent.futures.Future[list[Worker]]()
        self._workers = replies

        def run() -> None:
            try:
                replies.set_result(asyncio.run(ask(app)))
            except Exception as error:  # noqa: BLE001 - the checks report it
                replies.set_exception(error)

        threading.Thread(target=run, name="workers", daemon=True).start()

    @property
    def replies(self) -> list[Worker]:
        """The workers that replied.

        Raises:
            CannotSee: There is no application.
            CannotAsk: The broker is connected, and carries no questions to workers.
            PublishFailed: The broker cannot be reached.
        """
        self.ask_workers()
        if self._workers is None:
            raise CannotSee("no Celery application: see settings.application")
        return self._workers.result()

    @property
    def workers(self) -> list[Worker]:
        """The workers, of which at least one replied.

        Raises:
            CannotSee: The broker cannot be reached, or no worker replied.
        """
        try:
            found = self.replies
        except PgreactError as error:
            raise CannotSee("no worker could be asked: see celery.broker") from error
        if not found:
            raise CannotSee("no worker replied")
        return found


def statement(text: LiteralString, *literals: Any, identifiers: Sequence[str] = ()) -> str:
    """Return an SQL statement with values in place of ``{}``, to be pasted.

    Args:
        text: The statement.
        literals: Values.
        identifiers: Names, which come before the values.
    """
    return sql.SQL(text).format(*map(sql.Identifier, identifiers), *literals).as_string()
