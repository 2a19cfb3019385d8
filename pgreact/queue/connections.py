"""The caller's connection, of any supported library: run one statement in the transaction it is in.

No library is imported for that: a connection of a library exists only where the library was imported.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import cache
from typing import Any, Generic, Literal, Protocol, TypeVar

from pgreact.postgres.queries import query

T = TypeVar("T")

# ---- for type checkers, which may know none of these libraries ---------------------------------------------


class SyncConnection(Protocol):
    """A connection of psycopg, psycopg2, SQLAlchemy (or a session) or Django."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class AsyncConnection(Protocol):
    """An asynchronous connection of psycopg or SQLAlchemy (or a session)."""

    def commit(self) -> Awaitable[None]: ...

    def rollback(self) -> Awaitable[None]: ...


class AsyncpgConnection(Protocol):
    """A connection of asyncpg, taken from a pool or not."""

    def fetchval(self, query: str, *args: object) -> Awaitable[Any]: ...

    def is_in_transaction(self) -> bool: ...


class SyncCursor(Protocol):
    """A cursor of psycopg or psycopg2."""

    @property
    def connection(self) -> SyncConnection: ...

    def fetchone(self) -> object: ...


class AsyncCursor(Protocol):
    """An asynchronous cursor of psycopg."""

    @property
    def connection(self) -> AsyncConnection: ...

    def fetchone(self) -> Awaitable[object]: ...


AnySync = SyncConnection | SyncCursor
AnyAsync = AsyncConnection | AsyncCursor | AsyncpgConnection

# ---- one function for each kind of connection --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """One call of a function of schema ``pgreact``.

    Attributes:
        name: The function of package ``pgreact`` that was called, and the query that it runs.
        parameters: The query's parameter, if it has one: no query has two.
        read: Makes the result of the rows.
    """

    name: str
    parameters: Mapping[str, str]
    read: Callable[[Any], T]


def run(connection: object, call: Call[T]) -> T | Coroutine[Any, Any, T]:
    """Make a call in the transaction of a connection.

    Returns:
        The result, or a coroutine that returns it when the connection is asynchronous.

    Raises:
        TypeError: ``connection`` is no supported connection.
    """
    # by __class__, which a proxy (of a tracer, say) borrows from the connection in it
    for kind in connection.__class__.__mro__:
        if runner := _RUNNERS.get(f"{kind.__module__}.{kind.__qualname__}"):
            found: T | Coroutine[Any, Any, T] = runner(connection, call)
            return found
    kind = connection.__class__
    raise TypeError(
        f"conn is a {kind.__module__}.{kind.__qualname__}. It must be the connection whose transaction "
        f"pgreact.{call.name} is to be part of: of psycopg (Connection, AsyncConnection, or a cursor), "
        "asyncpg, psycopg2, SQLAlchemy (Connection, Session, AsyncConnection, AsyncSession) or Django "
        "(django.db.connection)"
    )


def is_asynchronous(connection: object) -> bool:
    """Return whether calls on a connection are awaited."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in connection.__class__.__mro__}
    return not kinds.isdisjoint(_ASYNCHRONOUS)


def _psycopg(connection: Any, call: Call[T]) -> T:
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(*_for_psycopg(cursor, call))
        return call.read(cursor.fetchall())


async def _psycopg_async(connection: Any, call: Call[T]) -> T:
    from psycopg.rows import tuple_row

    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(*_for_psycopg(cursor, call))
        return call.read(await cursor.fetchall())


def _for_psycopg(cursor: Any, call: Call[T]) -> tuple[str, object]:
    if any(kind.__name__ == "RawCursorMixin" for kind in type(cursor).__mro__):
        return _sql(call.name, "numbered"), (*call.parameters.values(),)
    return _sql(call.name, "pyformat"), call.parameters


def _psycopg2(connection: Any, call: Call[T]) -> T:
    if connection.async_:
        raise TypeError("conn is an asynchronous connection of psycopg2, which knows no transactions")
    with connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor) as cursor:
        cursor.execute(_sql(call.name, "pyformat"), call.parameters)
        return call.read(cursor.fetchall())


async def _asyncpg(connection: Any, call: Call[T]) -> T:
    return call.read(await connection.fetch(_sql(call.name, "numbered"), *call.parameters.values()))


def _sqlalchemy(connection: Any, call: Call[T]) -> T:
    return call.read(connection.execute(_sqlalchemy_text(call.name), call.parameters).all())


async def _sqlalchemy_async(connection: Any, call: Call[T]) -> T:
    return call.read((await connection.execute(_sqlalchemy_text(call.name), call.parameters)).all())


@cache
def _sqlalchemy_text(name: str) -> Any:
    return sys.modules["sqlalchemy"].text(_sql(name, "named"))


def _django(connection: Any, call: Call[T]) -> T:
    if connection.vendor != "postgresql":
        raise TypeError(
            f'conn is Django\'s "{connection.alias}", which is {connection.vendor}, not PostgreSQL'
        )
    try:
        opened = connection.cursor()
    except sys.modules["django.core.exceptions"].SynchronousOnlyOperation as error:
        raise type(error)(
            f"pgreact.{call.name} was called with Django's connection in async code, where it cannot be "
            "used. Put the whole transaction into one synchronous function, with transaction.atomic() and "
            f"pgreact.{call.name}(connection, …) in it, and call it by await sync_to_async(function)(…)"
        ) from error
    with opened as cursor:
        cursor.execute(_sql(call.name, "pyformat"), call.parameters)
        return call.read(cursor.fetchall())


def _of_cursor(cursor: Any, call: Call[T]) -> T | Coroutine[Any, Any, T]:
    return run(cursor.connection, call)


@cache
def _sql(name: str, style: Literal["pyformat", "numbered", "named"]) -> str:
    """Return a query with its parameter written as a library expects it."""
    replacement = {"pyformat": r"%(\1)s", "numbered": "$1", "named": r":\1"}[style]
    return re.sub(r"%\((\w+)\)s", replacement, query(name))


_RUNNERS: dict[str, Callable[[Any, Call[Any]], Any]] = {
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
