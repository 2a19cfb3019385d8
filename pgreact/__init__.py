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


def setup(
    app: "Celery", dsn: str | None = None, *, transactional: "bool | Callable[..., object]" = False
) -> None:
    """Let the workers of a Celery application run jobs, and each route's task once at a time, cluster-wide.

    Call it once, where you create the application. Tasks need no change: sync, bound, with autoretry, with
    classes of their own, in the pools prefork, threads and solo. Messages that pgreact did not send run as
    before.

    **Jobs** (:func:`enqueue`). One message runs a job, under a lease that the worker renews while it runs.
    The process that runs the job settles it; the worker's main process does so when that process is killed,
    exceeds its time limit, or the task is revoked or unknown. Retries that the task asks for, and a task
    that replaces it, belong to the same attempt; after a failed attempt the job's own attempts and backoff
    count. When a worker dies, other workers get its jobs at the end of the lease. A task that keeps Python
    from switching threads for longer than the lease is lost. This takes two statements a job and one
    connection per process (per running thread in the pool threads). The role needs execute on
    ``pgreact.start``, ``renew``, ``snooze``, ``postpone``, ``settle``, ``abandon`` and ``database_id``.

    **Routes** with ``single_flight = "run"``. At most one run and one waiting message exist, on all machines
    together; further messages are dropped, since the waiting one does their work. Each run uses two
    connections. The role needs no rights in schema ``pgreact``. Celery's time limits include the wait.

    A pooler in transaction mode suffices for both. If the database does not answer within five seconds, or
    refuses, the task does not run: Celery ignores the message, the worker logs a warning
    (``job.start_failed``, ``flight.start_failed``), and the daemon publishes again. A settlement that fails
    is repeated in the background, and the lease renewed, until PostgreSQL has it or the process ends.

    **Calls as jobs** (``transactional``). ``delay()``, ``apply_async()`` and canvases called inside an open
    transaction become jobs of it: after a rollback nothing was sent, after the commit they run. Outside a
    transaction they become jobs at once. ``apply_async(…, transactional=False)`` and a task's own attribute
    ``transactional`` decide for one call or task.

    Args:
        app: The application. It gets three more tasks: ``pgreact.job``, which messages of jobs name,
            ``pgreact.run_canvas``, which starts an enqueued chain, group or chord, and ``pgreact.canary``,
            which does nothing.
        dsn: The daemon's database, as libpq reads it; by default, when first needed: ``PGREACT_DSN``, else
            ``pgreact.toml``, else the ``PG*`` variables.
        transactional: ``True``: the transaction of Django's connection to the database that has pgreact's
            schema (``"pgreact.django"`` in ``INSTALLED_APPS``). A ``sessionmaker``, ``async_sessionmaker``,
            ``scoped_session`` or ``async_scoped_session`` of SQLAlchemy: that of its session. Or a callable
            that returns the connection or session whose transaction is open, or ``None``. A later call of
            ``setup`` with ``False`` keeps it.

    Raises:
        TypeError: ``transactional`` is none of these.
    """
    from pgreact.worker.setup import setup as install

    install(app, dsn, transactional)


def single_flight(
    route: str, dsn: str | None = None
) -> "Callable[[Callable[_P, _R]], Callable[_P, _R | None]]":
    """Guard one task by the flight of a route, for calls from anywhere::

        @app.task
        @pgreact.single_flight("dispatch")
        def dispatch_next_available() -> None: ...

    Unlike :func:`setup`, this also holds for calls that do not come from the daemon. A call is dropped and
    returns ``None`` while one runs and one waits.

    Args:
        route: The route's name. Its id is looked up at the first call: the role needs usage on schema
            ``pgreact`` and select on ``pgreact.route``. A missing route fails the call
            (:class:`pgreact.errors.ConfigError`), and the function is not run.
        dsn: As in :func:`setup`.

    Returns:
        A decorator for the function, to be written below ``@app.task``.

    Raises:
        TypeError: By the decorator, if it is applied to a task.
    """
    from pgreact.worker.setup import single_flight as decorator

    return decorator(route, dsn)
