"""Cancel and retry jobs, signal routes and mute a transaction, on the caller's connection."""

from collections.abc import Coroutine
from typing import Any, Literal, overload

from pgreact.queue.connections import AnyAsync, AnySync, Call, run

Cancelled = Literal["cancelled", "started"]


@overload
def cancel(conn: AnyAsync, job: int) -> Coroutine[Any, Any, Cancelled | None]: ...
@overload
def cancel(conn: AnySync, job: int) -> Cancelled | None: ...
def cancel(conn: object, job: int) -> Cancelled | Coroutine[Any, Any, Cancelled | None] | None:
    """Cancel a job in the transaction of a connection.

    A job that no worker has started is removed. A job that runs goes on, but gets no further attempt. A dead
    job stays as it is. Until the transaction ends, no worker starts the job.

    Args:
        conn: As in :func:`pgreact.enqueue`. The role needs execute on ``pgreact.cancel``.
        job: The job's id, as :func:`pgreact.enqueue` returned it.

    Returns:
        ``"cancelled"``: it will not run. ``"started"``: it runs, for the last time. ``None``: no job of this
        id waits or is in progress. With an asynchronous connection, a coroutine that returns it.

    Raises:
        TypeError: At once: ``conn`` is no connection, or ``job`` is no whole number.
        Exception: PostgreSQL refused: the library's own error.
    """
    return run(conn, Call("cancel", {"job": _id(job)}, _value))


@overload
def retry(conn: AnyAsync, job: int) -> Coroutine[Any, Any, bool]: ...
@overload
def retry(conn: AnySync, job: int) -> bool: ...
def retry(conn: object, job: int) -> bool | Coroutine[Any, Any, bool]:
    """Queue a dead job again with all its attempts, or let a delayed job run now.

    Args:
        conn: As in :func:`pgreact.enqueue`. The role needs execute on ``pgreact.retry``.
        job: The job's id, as :func:`pgreact.enqueue` returned it.

    Returns:
        Whether the job was dead or delayed; if not, nothing changed. With an asynchronous connection, a
        coroutine that returns it.

    Raises:
        TypeError: At once: ``conn`` is no connection, or ``job`` is no whole number.
        Exception: PostgreSQL refused: the library's own error.
    """
    return run(conn, Call("retry", {"job": _id(job)}, _value))


@overload
def signal(conn: AnyAsync, route: str) -> Coroutine[Any, Any, None]: ...
@overload
def signal(conn: AnySync, route: str) -> None: ...
def signal(conn: object, route: str) -> Coroutine[Any, Any, None] | None:
    """Signal a route when the transaction of a connection commits, as a change of a watched table does.

    Args:
        conn: As in :func:`pgreact.enqueue`. The role needs execute on ``pgreact.signal``.
        route: The route's name.

    Returns:
        ``None``; with an asynchronous connection, a coroutine that returns it.

    Raises:
        TypeError: At once: ``conn`` is no connection, or ``route`` is no text.
        Exception: PostgreSQL refused (an unknown route, a missing right): the library's own error.
    """
    if not isinstance(route, str):
        raise TypeError(f"route is {route!r}, not the name of a route")
    return run(conn, Call("signal", {"route": route}, _nothing))


@overload
def mute(conn: AnyAsync) -> Coroutine[Any, Any, None]: ...
@overload
def mute(conn: AnySync) -> None: ...
def mute(conn: object) -> Coroutine[Any, Any, None] | None:
    """Let the rest of the transaction of a connection signal no route.

    Its changes are found by the next sweep, or by the next signal of their route. A rollback to a savepoint
    before this call ends it. In autocommit mode it has no effect, as each statement is a transaction.

    Args:
        conn: As in :func:`pgreact.enqueue`. The role needs execute on ``pgreact.mute``.

    Returns:
        ``None``; with an asynchronous connection, a coroutine that returns it.

    Raises:
        TypeError: At once: ``conn`` is no connection.
        Exception: PostgreSQL refused: the library's own error.
    """
    return run(conn, Call("mute", {}, _nothing))


def _id(job: int) -> str:
    if not isinstance(job, int) or isinstance(job, bool):
        raise TypeError(f"job is {job!r}, not the id of a job")
    return str(int(job))


def _value(rows: Any) -> Any:
    [(value,)] = rows
    return value


def _nothing(_rows: Any) -> None:
    return None
