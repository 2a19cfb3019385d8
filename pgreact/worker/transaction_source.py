"""The transaction that calls of tasks belong to: Django's, that of a SQLAlchemy session, or a callable's.

This module imports neither library: ``pgreact.django`` registers its source when Django starts it, and
``pgreact.sqlalchemy`` is loaded for SQLAlchemy's own objects, which exist only where SQLAlchemy does.
"""

import atexit
import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol

from pgreact.errors import ConfigError, NotGuarded
from pgreact.queue.connections import Call, is_asynchronous, run
from pgreact.worker.session import TIMEOUT, SessionPool

_MAX_IDLE = 4  # connections that a process keeps for calls outside a transaction
_SQLALCHEMY_SESSIONS = {
    "sqlalchemy.orm.session.Session",
    "sqlalchemy.orm.scoping.scoped_session",
    "sqlalchemy.ext.asyncio.session.AsyncSession",
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session",
}
_SQLALCHEMY_FACTORIES = {
    "sqlalchemy.orm.session.sessionmaker",
    "sqlalchemy.orm.scoping.scoped_session",
    "sqlalchemy.ext.asyncio.session.async_sessionmaker",
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session",
}


class Source(Protocol):
    """Finds the open transaction of the calling code."""

    def enqueue(self, payload: str) -> bool:
        """Enqueue a job in the open transaction.

        Args:
            payload: The job, see :func:`pgreact.queue.payload.payload`.

        Returns:
            False: none is open, and nothing was done.
        """


_django: list[Source] = []  # at most one, of this process's Django


def register_django(source: Source) -> None:
    """Let ``transactional=True`` mean Django's transaction.

    Args:
        source: Of this process's Django.
    """
    _django[:] = [source]


def source_of(transactional: object) -> Source | None:
    """Return the source that ``pgreact.setup(app, transactional=…)`` names; ``None``: Django's, found later.

    Args:
        transactional: ``True``, ``False``, a factory of SQLAlchemy's, or a callable.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(transactional, bool):
        return None
    kinds = _kinds(transactional)
    if kinds & _SQLALCHEMY_FACTORIES:
        found: Source = importlib.import_module("pgreact.sqlalchemy").source_of(transactional)
        return found
    if kinds & _SQLALCHEMY_SESSIONS or not callable(transactional):
        raise TypeError(
            f"transactional is of type {type(transactional).__name__}. It must be True (Django), False, a "
            "sessionmaker, async_sessionmaker, scoped_session or async_scoped_session of SQLAlchemy, or a "
            "callable that returns the current connection or session, or None"
        )
    return _Callable(transactional)


def django_source() -> Source:
    """Return Django's source.

    Raises:
        ConfigError: Django has not started ``pgreact.django`` in this process.
    """
    if not _django:
        raise ConfigError(
            'transactional=True is about Django\'s transaction, and Django has not started "pgreact.django" '
            "here: add it to INSTALLED_APPS, and call django.setup() first. With SQLAlchemy, name your "
            "sessionmaker: pgreact.setup(app, transactional=Session)"
        )
    return _django[0]


class _Callable:
    """The connection or session that a callable of the application returns."""

    def __init__(self, current: Callable[[], Any]) -> None:
        self._current = current

    def enqueue(self, payload: str) -> bool:
        current = self._current()
        if current is None:
            return False
        if _kinds(current) & _SQLALCHEMY_SESSIONS:
            added: bool = importlib.import_module("pgreact.sqlalchemy").enqueue(current, payload)
            return added
        if is_asynchronous(current):
            kind = type(current)
            raise TypeError(
                f"the callable that pgreact.setup has as transactional returned a {kind.__module__}."
                f"{kind.__qualname__}, on which delay() cannot wait: return a synchronous connection or a "
                "session of SQLAlchemy, or call await pgreact.enqueue(connection, task, …)"
            )
        run(current, Call("enqueue", {"jobs": payload}, _nothing))
        return True


class OwnSessions:
    """Short sessions of pgreact's own, for calls outside a transaction. Threads share them."""

    def __init__(self, dsn: str) -> None:
        """Prepare; the first call connects. ``dsn`` is as libpq reads it."""
        self._pool = SessionPool(dsn)
        self._pool.max_idle, self._pool.timeout = _MAX_IDLE, TIMEOUT

    def enqueue(self, payload: str) -> None:
        """Enqueue a job and commit.

        Raises:
            psycopg.Error: PostgreSQL cannot be reached, or refuses.
        """
        try:
            with self._pool.session() as session:
                session.execute_pinned("enqueue", jobs=payload)
        except NotGuarded as error:
            raise error.__cause__ or error from None

    @classmethod
    def of(cls, dsn: str) -> "OwnSessions":
        """Return those of a database in this process."""
        return _own.get(dsn) or _own.setdefault(dsn, cls(dsn))


_own: dict[str, OwnSessions] = {}  # by DSN


def _after_fork() -> None:
    for sessions in list(_own.values()):
        sessions._pool.disown()


def _at_exit() -> None:
    for sessions in list(_own.values()):
        sessions._pool.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def _kinds(value: object) -> set[str]:
    """Return the full names of a value's classes; a proxy has those of the object behind it."""
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in value.__class__.__mro__}


def _nothing(_rows: object) -> None:
    return None
