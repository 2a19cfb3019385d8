"""pgreact: a committed change in PostgreSQL becomes one Celery call, at once."""

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from pgreact.queue.job import Enqueued, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Literal
    from uuid import UUID

    from celery import Celery

    from pgreact.queue.connections import (
        AsyncConnection,
        AsyncCursor,
        AsyncpgConnection,
        SyncConnection,
        SyncCursor,
    )
    from pgreact.queue.job import TaskLike

__all__ = ["Enqueued", "Job", "enqueue", "enqueue_many", "setup", "single_flight"]
__version__ = "0.1.0"

_P = ParamSpec("_P")
_R = TypeVar("_R")


def setup(app: "Celery", dsn: str | None = None) -> None:
    """Let the workers of a Celery application run jobs, and each route's task once at a time, cluster-wide.

    Say it once, where the application is made. Tasks stay as they are: sync, bound, with autoretry, with
    classes of their own, in the pools prefork, threads and solo. Messages that pgreact did not send run as
    if nothing had been said.

    A job (:func:`enqueue`) is run by one message only, under a lease that is renewed while it runs, and
    settled when it ends: by its body or, when that is killed, exceeds its time limit, is revoked or
    unknown, by the worker's main process. Retries that the task asks for itself, and a task that replaces
    it, belong to the same attempt;
    after an attempt that failed, the job's own attempts and backoff count. A worker that dies loses its
    jobs to the others when the lease ends. This takes two statements a job and one connection per process
    (per running thread in the pool threads), and the role needs execute on ``pgreact.start``, ``renew``,
    ``snooze``, ``postpone``, ``settle``, ``abandon`` and ``database_id``. A body that keeps Python from
    switching threads for longer than the lease is taken for lost.

    Of a route with ``single_flight = "run"``, at most one run and one waiter are there, on all machines
    together; what comes beyond that is dropped, as the waiter will do its work. Each run uses two
    connections. The role needs no rights in schema ``pgreact``. Celery's time limits include the wait.

    A pooler in transaction mode will do for both. If the database cannot be asked within five seconds, or
    refuses, the task does not run: Celery ignores the message, the worker logs a warning
    (``job.untaken``, ``flight.untaken``), and the daemon publishes again. The end of a job that PostgreSQL
    does not hear is told again in the background, and its lease kept, until it is heard or the process ends.

    Args:
        app: The application. It gets two more tasks: ``pgreact.job``, which messages of jobs name, and
            ``pgreact.run_canvas``, which starts a chain, group or chord that was enqueued.
        dsn: The daemon's database, as libpq reads it; by default, when first needed: ``PGREACT_DSN``, else
            ``pgreact.toml``, else the ``PG*`` variables.
    """
    from pgreact.worker.setup import setup as install

    install(app, dsn)


def single_flight(
    route: str, dsn: str | None = None
) -> "Callable[[Callable[_P, _R]], Callable[_P, _R | None]]":
    """Guard one task by the flight of a route, whoever calls it::

        @app.task
        @pgreact.single_flight("dispatch")
        def dispatch_next_available() -> None: ...

    Unlike :func:`setup`, this holds for calls that did not come from the daemon as well. A call that is
    dropped, because one runs and one waits, returns ``None``.

    Args:
        route: The route's name. Its id is looked up at the first call: the role needs usage on schema
            ``pgreact`` and select on ``pgreact.route``. A missing route fails the call
            (:class:`pgreact.errors.ConfigError`), and the function is not run.
        dsn: As in :func:`setup`.

    Returns:
        A decorator for the function, to be written below ``@app.task``.

    Raises:
        TypeError: By the decorator, when it was given a task.
    """
    from pgreact.worker.setup import single_flight as decorator

    return decorator(route, dsn)


@overload
def enqueue(
    conn: "AsyncConnection | AsyncCursor | AsyncpgConnection",
    task: "str | TaskLike | Mapping[str, Any]",
    args: "Sequence[Any]" = ...,
    kwargs: "Mapping[str, Any] | None" = ...,
    *,
    lane: str | None = ...,
    priority: int = ...,
    run_at: "datetime | timedelta | float | None" = ...,
    key: str | None = ...,
    unique_key: str | None = ...,
    unique_while: "Literal['queued', 'in_progress']" = ...,
    max_attempts: int = ...,
    backoff: "timedelta | float" = ...,
    expires: "datetime | timedelta | float | None" = ...,
    options: "Mapping[str, Any] | None" = ...,
    max_lost: int | None = ...,
    task_id: "str | UUID | None" = ...,
) -> "Coroutine[Any, Any, Enqueued]": ...
@overload
def enqueue(
    conn: "SyncConnection | SyncCursor",
    task: "str | TaskLike | Mapping[str, Any]",
    args: "Sequence[Any]" = ...,
    kwargs: "Mapping[str, Any] | None" = ...,
    *,
    lane: str | None = ...,
    priority: int = ...,
    run_at: "datetime | timedelta | float | None" = ...,
    key: str | None = ...,
    unique_key: str | None = ...,
    unique_while: "Literal['queued', 'in_progress']" = ...,
    max_attempts: int = ...,
    backoff: "timedelta | float" = ...,
    expires: "datetime | timedelta | float | None" = ...,
    options: "Mapping[str, Any] | None" = ...,
    max_lost: int | None = ...,
    task_id: "str | UUID | None" = ...,
) -> "Enqueued": ...
def enqueue(
    conn: object,
    task: "str | TaskLike | Mapping[str, Any]",
    args: "Sequence[Any]" = (),
    kwargs: "Mapping[str, Any] | None" = None,
    *,
    lane: str | None = None,
    priority: int = 0,
    run_at: "datetime | timedelta | float | None" = None,
    key: str | None = None,
    unique_key: str | None = None,
    unique_while: "Literal['queued', 'in_progress']" = "queued",
    max_attempts: int = 1,
    backoff: "timedelta | float" = 5,
    expires: "datetime | timedelta | float | None" = None,
    options: "Mapping[str, Any] | None" = None,
    max_lost: int | None = None,
    task_id: "str | UUID | None" = None,
) -> "Enqueued | Coroutine[Any, Any, Enqueued]":
    """Enqueue a job in the transaction of a connection::

        with Session.begin() as session:
            session.add(user)
            session.flush()
            pgreact.enqueue(session, send_email, kwargs={"user_id": user.id})

    If the transaction commits, the job runs on the Celery workers milliseconds later; if it is rolled back,
    it never was. The statement is the only thing done: nothing is committed, begun or set. On a connection
    in autocommit mode the job is there at once.

    Arguments travel as those of ``delay()`` do, with Celery's JSON: the task gets ``datetime``, ``date``,
    ``time``, ``Decimal``, ``UUID`` and ``bytes`` back as what they were, and tuples as lists.

    Args:
        conn: Of psycopg (``Connection``, ``AsyncConnection``, or a cursor), psycopg2, asyncpg (from a pool,
            too), SQLAlchemy (``Connection``, ``Session``, ``AsyncConnection``, ``AsyncSession``) or Django
            (``django.db.connection``, ``connections["other"]``; in async code within ``sync_to_async``, as
            the whole transaction). The role needs usage on schema ``pgreact`` and execute on
            ``pgreact.enqueue``, ``enqueue_many`` and ``task_id``.
        task: The task's name; or the task itself, whose arguments are checked then; or a signature. A
            signature of one task is a job of that task with its arguments and options; ``countdown`` and
            ``eta`` become ``run_at``. A chain, group, chord, map, starmap or chunks is one job, of the task
            ``pgreact.run_canvas``, that starts it: done when it is started.
        args: The task's arguments.
        kwargs: Those with names.
        lane: The lane, whose limits hold for the job; ``None``: that of the Celery queue the task is routed
            to.
        priority: Higher comes first within the lane.
        run_at: Not before then: a ``datetime`` with time zone, or a ``timedelta`` or seconds from now,
            counted by the database's clock.
        key: Jobs of one key run one at a time, in the order they were enqueued in.
        unique_key: If a job of that key is queued, there will be no other.
        unique_while: ``in_progress``: nor if one is in progress.
        max_attempts: So many attempts, when they fail. Celery's own retries belong to one attempt, so a task
            that has them needs none of these.
        backoff: Pause after the first failed attempt, ``timedelta`` or seconds; it doubles, up to an hour.
        expires: A job that no worker has started by then does not run, and is dead; in the forms of
            ``run_at``.
        options: Of ``apply_async``, for the message: ``queue``, ``priority``, ``headers``, ``time_limit``,
            ``link``, …; with a signature, in addition to its own. A canvas keeps its own to itself: these
            are for the message that starts it.
        max_lost: So often the job is repeated when its worker died; ``None``: as its lane says, ``0``: it
            runs at most once.

        task_id: Celery's id of the task, a UUID, the same for every attempt; by default, that of the
            signature if it has one, else a new one.

    If the application runs its tasks at once (``task_always_eager``), a task or signature of it is run at
    once and nothing is enqueued, as ``delay()`` does; with ``pgreact_eager = False`` in the application's
    configuration it is refused. A task that is only named is enqueued.

    Returns:
        The job's id, or that of the job with the same ``unique_key``; its attribute ``task_id`` is Celery's
        id, by which ``AsyncResult`` waits for the result once the transaction has committed. With an
        asynchronous connection, an awaitable of it.

    Raises:
        TypeError: At once, for an asynchronous connection too: ``conn`` is no connection, ``task`` no task,
            an argument is not JSON (the message says which), or the arguments do not fit the task.
        ValueError: A time without time zone, a number that is none, a character PostgreSQL does not store,
            a ``task_id`` that is no UUID.
        Exception: What PostgreSQL refuses (an unknown lane or option, more than 1 MiB of arguments, a
            missing right) is the library's own error, and the transaction has failed, as always.
    """
    from pgreact.queue.enqueue import enqueue as into

    job = Job(
        task,
        args,
        kwargs,
        lane=lane,
        priority=priority,
        run_at=run_at,
        key=key,
        unique_key=unique_key,
        unique_while=unique_while,
        max_attempts=max_attempts,
        backoff=backoff,
        expires=expires,
        options=options,
        task_id=task_id,
        max_lost=max_lost,
    )
    return into(conn, job)


@overload
def enqueue_many(
    conn: "AsyncConnection | AsyncCursor | AsyncpgConnection",
    jobs: "Iterable[Job | Mapping[str, Any] | TaskLike | str]",
) -> "Coroutine[Any, Any, list[Enqueued]]": ...
@overload
def enqueue_many(
    conn: "SyncConnection | SyncCursor", jobs: "Iterable[Job | Mapping[str, Any] | TaskLike | str]"
) -> "list[Enqueued]": ...
def enqueue_many(
    conn: object, jobs: "Iterable[Job | Mapping[str, Any] | TaskLike | str]"
) -> "list[Enqueued] | Coroutine[Any, Any, list[Enqueued]]":
    """Enqueue many jobs by one statement, in the transaction of a connection::

        pgreact.enqueue_many(connection, [Job(send_email, kwargs={"user_id": id}, lane="mail") for id in ids])

    Args:
        conn: As in :func:`enqueue`.
        jobs: Each is a :class:`Job`, or a dict with the same fields, or a signature, or a task or its name.

    Returns:
        Their ids, in the same order, each with its ``task_id``. With an asynchronous connection, an
        awaitable of them.

    Raises:
        Exception: As :func:`enqueue`; the message begins like ``jobs[3]:``. None is enqueued then.
    """
    from pgreact.queue.enqueue import enqueue_many as into

    return into(conn, jobs)
