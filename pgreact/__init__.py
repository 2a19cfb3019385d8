"""pgreact: a committed change in PostgreSQL becomes one Celery call, at once."""

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pgreact.errors import ConfigError, NotGuarded, PgreactError
from pgreact.queue.control import cancel, mute, retry, signal
from pgreact.queue.enqueue import enqueue, enqueue_many
from pgreact.queue.job import Enqueued, Job, JobParameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

__all__ = [
    "ConfigError",
    "Enqueued",
    "Job",
    "JobParameters",
    "NotGuarded",
    "PgreactError",
    "cancel",
    "enqueue",
    "enqueue_many",
    "mute",
    "retry",
    "setup",
    "signal",
    "single_flight",
]
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
