"""The caller's connection, of whatever library: one statement in the transaction it is in.

No library is imported for that: if a connection is one of its own, it has been.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, Literal, Protocol

from pgreact.postgres.queries import query
from pgreact.queue.job import Enqueued

Name = Literal["enqueue", "enqueue_many"]
Ids = list[Enqueued] | Coroutine[Any, Any, list[Enqueued]]

# ---- for type checkers, which may know none of these libraries ---------------------------------------------


class SyncConnection(Protocol):
    """Of psycopg, psycopg2, SQLAlchemy (a session, too) or Django."""

    def commit(self) -> None:
        """Commit."""
        ...

    def rollback(self) -> None:
        """Roll back."""
        ...


class AsyncConnection(Protocol):
    """Of psycopg or SQLAlchemy (a session, too)."""

    def commit(self) -> Awaitable[None]:
        """Commit."""
        ...

    def rollback(self) -> Awaitable[None]:
        """Roll back."""
        ...


class AsyncpgConnection(Protocol):
    """Of asyncpg, taken from a pool or not."""

    def fetchval(self, query: str, *args: object) -> Awaitable[Any]:
        """Return one value."""
        ...

    def is_in_transaction(self) -> bool:
        """Tell whether it is."""
        ...


class SyncCursor(Protocol):
    """Of psycopg or psycopg2."""

    @property
    def connection(self) -> SyncConnection:
        """Whose it is."""
        ...

    def fetchone(self) -> object:
        """Return a row."""
        ...


class AsyncCursor(Protocol):
    """Of psycopg."""

    @property
    def connection(self) -> AsyncConnection:
        """Whose it is."""
        ...

    def fetchone(self) -> Awaitable[object]:
        """Return a row."""
        ...


# ---- one function for each kind of connection --------------------------------------------------------------


def run(connection: object, name: Name, jobs: str) -> Ids:
    """Enqueue jobs in the transaction of a connection.

    Args:
        connection: The caller's.
        name: The query.
        jobs: Its parameter.

    Returns:
        The jobs, or a coroutine that returns them when the connection is asynchronous.

    Raises:
        TypeError: It is no connection that we know.
    """
    # by __class__, which a proxy (of a tracer, say) borrows from what is behind it
    for kind in connection.__class__.__mro__:
        if runner := _RUNNERS.get(f"{kind.__module__}.{kind.__qualname__}"):
            return runner(connection, name, jobs)
    kind = connection.__class__
    raise TypeError(
        f"conn is a {kind.__module__}.{kind.__qualname__}. It must be the connection whose transaction "
        "the job belongs to: of psycopg (Connection, AsyncConnection, or a cursor), asyncpg, psycopg2, "
        "SQLAlchemy (Connection, Session, AsyncConnection, AsyncSession) or Django (django.db.connection)"
    )


def is_asynchronous(connection: object) -> bool:
    """Tell whether what is done on a connection is awaited."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in connection.__class__.__mro__}
    return not kinds.isdisjoint(_ASYNCHRONOUS)


def _psycopg(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(*_for_psycopg(cursor, name, jobs))
        return _ids(cursor.fetchall())


async def _psycopg_async(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    from psycopg.rows import tuple_row

    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(*_for_psycopg(cursor, name, jobs))
        return _ids(await cursor.fetchall())


def _for_psycopg(cursor: Any, name: Name, jobs: str) -> tuple[str, object]:
    if any(kind.__name__ == "RawCursorMixin" for kind in type(cursor).__mro__):
        return _statement(name, "$1"), (jobs,)
    return _statement(name, "%(jobs)s"), {"jobs": jobs}


def _psycopg2(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    if connection.async_:
        raise TypeError("conn is an asynchronous connection of psycopg2, which knows no transactions")
    with connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor) as cursor:
        cursor.execute(_statement(name, "%(jobs)s"), {"jobs": jobs})
        return _ids(cursor.fetchall())


async def _asyncpg(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    return _ids(await connection.fetch(_statement(name, "$1"), jobs))


def _sqlalchemy(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    return _ids(connection.execute(_sqlalchemy_text(name), {"jobs": jobs}).all())


async def _sqlalchemy_async(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    return _ids((await connection.execute(_sqlalchemy_text(name), {"jobs": jobs})).all())


@cache
def _sqlalchemy_text(name: Name) -> Any:
    return sys.modules["sqlalchemy"].text(_statement(name, ":jobs"))


def _django(connection: Any, name: Name, jobs: str) -> list[Enqueued]:
    if connection.vendor != "postgresql":
        raise TypeError(
            f'conn is Django\'s "{connection.alias}", which is {connection.vendor}, not PostgreSQL'
        )
    try:
        opened = connection.cursor()
    except sys.modules["django.core.exceptions"].SynchronousOnlyOperation as error:
        raise type(error)(
            f"pgreact.{name} was called with Django's connection in async code, where it cannot be used. "
            "Put the whole transaction into one synchronous function, with transaction.atomic() and "
            f"pgreact.{name}(connection, …) in it, and call it by await sync_to_async(function)(…)"
        ) from error
    with opened as cursor:
        cursor.execute(_statement(name, "%(jobs)s"), {"jobs": jobs})
        return _ids(cursor.fetchall())


def _of_cursor(cursor: Any, name: Name, jobs: str) -> Ids:
    return run(cursor.connection, name, jobs)


@cache
def _statement(name: Name, placeholder: str) -> str:
    return query(name).replace("%(jobs)s", placeholder)


def _ids(rows: Any) -> list[Enqueued]:
    return [Enqueued(int(job), str(task_id)) for job, task_id in rows]


_RUNNERS: dict[str, Callable[[Any, Name, str], Ids]] = {
    "psycopg.Connection": _psycopg,
    "psycopg.AsyncConnection": _psycopg_async,
    "psycopg.Cursor": _of_cursor,
    "psycopg.AsyncCursor": _of_cursor,
    "psycopg2.extensions.connection": _psycopg2,
    "psycopg2.extensions.cursor": _of_cursor,
    "asyncpg.connection.Connection": _asyncpg,
    "asyncpg.pool.PoolConnectionProxy": _asyncpg,
    "sqlalchemy.engine.base.Connection": _sqlalchemy,
    "sqlalchemy.orm.session.Session": _sqlalchemy,
    "sqlalchemy.orm.scoping.scoped_session": _sqlalchemy,
    "sqlalchemy.ext.asyncio.engine.AsyncConnection": _sqlalchemy_async,
    "sqlalchemy.ext.asyncio.session.AsyncSession": _sqlalchemy_async,
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": _sqlalchemy_async,
    "django.db.backends.base.base.BaseDatabaseWrapper": _django,
    "django.utils.connection.ConnectionProxy": _django,
}
_ASYNCHRONOUS = {"psycopg.AsyncCursor"} | {
    kind for kind, runner in _RUNNERS.items() if inspect.iscoroutinefunction(runner)
}
