"""Enqueue jobs in the caller's transaction."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack, overload

from pgreact.queue import eager
from pgreact.queue.connections import AnyAsync, AnySync, Call, is_asynchronous, run
from pgreact.queue.job import Enqueued, Job, JobParameters, TaskLike
from pgreact.queue.payload import payload

T = TypeVar("T")


@overload
def enqueue(
    conn: AnyAsync,
    task: str | TaskLike | Mapping[str, Any],
    args: Sequence[Any] = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **parameters: Unpack[JobParameters],
) -> Coroutine[Any, Any, Enqueued]: ...
@overload
def enqueue(
    conn: AnySync,
    task: str | TaskLike | Mapping[str, Any],
    args: Sequence[Any] = ...,
    kwargs: Mapping[str, Any] | None = ...,
    **parameters: Unpack[JobParameters],
) -> Enqueued: ...
def enqueue(
    conn: object,
    task: str | TaskLike | Mapping[str, Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **parameters: Unpack[JobParameters],
) -> Enqueued | Coroutine[Any, Any, Enqueued]:
    """Enqueue a job in the transaction of a connection::

        with Session.begin() as session:
            session.add(user)
            session.flush()
            pgreact.enqueue(session, send_email, kwargs={"user_id": user.id})

    If the transaction commits, the job runs on the Celery workers milliseconds later; if it is rolled back,
    the job does not exist. pgreact executes one statement and neither begins nor commits. On a connection in
    autocommit mode the job exists at once.

    Arguments travel as those of ``delay()`` do, with Celery's JSON: the task gets ``datetime``, ``date``,
    ``time``, ``Decimal``, ``UUID`` and ``bytes`` back as what they were, and tuples as lists.

    If the application runs its tasks at once (``task_always_eager``), a task or signature of it runs at once
    and nothing is enqueued, as with ``delay()``; with ``pgreact_eager = False`` in the application's
    configuration it is refused. A task given by its name is enqueued.

    Args:
        conn: A connection of psycopg (``Connection``, ``AsyncConnection``, or a cursor), psycopg2, asyncpg
            (also from a pool), SQLAlchemy (``Connection``, ``Session``, ``AsyncConnection``,
            ``AsyncSession``) or Django (``django.db.connection``, ``connections["other"]``; in async code,
            run the whole transaction within ``sync_to_async``). The role needs usage on schema ``pgreact``
            and execute on ``pgreact.enqueue``, ``enqueue_many``, ``task_id`` and ``clock_now``.
        task: The task's name; or the task itself, whose arguments are checked then; or a signature. A
            signature of one task is a job of that task with its arguments and options; ``countdown`` and
            ``eta`` become ``run_at``. A chain, group, chord, map, starmap or chunks is one job, of the task
            ``pgreact.run_canvas``, which is done when it has started the canvas.
        args: The task's positional arguments.
        kwargs: The task's keyword arguments.
        **parameters: Lane, key, time, attempts and options: see :class:`pgreact.JobParameters`.

    Returns:
        The job's id, or that of the job with the same ``unique_key``; its attribute ``task_id`` is Celery's
        id, by which ``AsyncResult`` waits for the result once the transaction has committed. With an
        asynchronous connection, a coroutine that returns it.

    Raises:
        TypeError: At once, for an asynchronous connection too: ``conn`` is no connection, ``task`` no task,
            a parameter is unknown, an argument is not JSON (the message says which), or the arguments do not
            fit the task.
        ValueError: A time has no time zone, a number is not finite, PostgreSQL cannot store a character, or
            ``task_id`` is no UUID.
        Exception: PostgreSQL refused (an unknown lane or option, more than 1 MiB of arguments, a missing
            right): the library's own error. The transaction has failed then.
    """
    job = Job(task, args, kwargs, **parameters)
    text = payload(job)
    if eager.is_eager(job):
        ran = eager.apply(job)
        return _coroutine(ran) if is_asynchronous(conn) else ran
    return run(conn, Call("enqueue", {"jobs": text}, _one))


@overload
def enqueue_many(
    conn: AnyAsync, jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str]
) -> Coroutine[Any, Any, list[Enqueued]]: ...
@overload
def enqueue_many(
    conn: AnySync, jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str]
) -> list[Enqueued]: ...
def enqueue_many(
    conn: object, jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str]
) -> list[Enqueued] | Coroutine[Any, Any, list[Enqueued]]:
    """Enqueue many jobs by one statement, in the transaction of a connection::

        pgreact.enqueue_many(connection, [Job(send_email, kwargs={"user_id": id}, lane="mail") for id in ids])

    Args:
        conn: As in :func:`enqueue`.
        jobs: Each is a :class:`Job`, or a dict with the arguments of one, or a signature, or a task or its
            name.

    Returns:
        Their ids, in the same order, each with its ``task_id``. With an asynchronous connection, a coroutine
        that returns them.

    Raises:
        Exception: As :func:`enqueue`; the message begins like ``jobs[3]:``. None is enqueued then.
    """
    if isinstance(jobs, str | Mapping):
        raise TypeError(f"jobs is of type {type(jobs).__name__}, not a list of jobs")
    texts: list[str] = []
    eager_jobs: dict[int, Job] = {}  # by their index
    for index, given in enumerate(jobs):
        try:
            job = _job(given)
            text = payload(job)
            if eager.is_eager(job):
                eager_jobs[index] = job
            else:
                texts.append(text)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"jobs[{index}]: {error}") from None
    ran = {index: eager.apply(job) for index, job in eager_jobs.items()}
    if ran and not texts:
        found = list(ran.values())
        return _coroutine(found) if is_asynchronous(conn) else found

    def all_of_them(rows: Any) -> list[Enqueued]:
        found = _ids(rows)
        for index, done in ran.items():
            found.insert(index, done)
        return found

    return run(conn, Call("enqueue_many", {"jobs": f"[{','.join(texts)}]"}, all_of_them))


def _job(given: Job | Mapping[str, Any] | TaskLike | str) -> Job:
    if isinstance(given, Job):
        return given
    if not isinstance(given, Mapping) or "subtask_type" in given:
        return Job(given)  # a name, a task or a signature
    if "task" not in given:
        raise TypeError('it has no "task"')
    return Job(**given)


def _ids(rows: Any) -> list[Enqueued]:
    return [Enqueued(int(job), str(task_id)) for job, task_id in rows]


def _one(rows: Any) -> Enqueued:
    return _ids(rows)[0]


async def _coroutine(value: T) -> T:
    return value
