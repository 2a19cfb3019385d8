"""pgreact: a committed change in PostgreSQL becomes one Celery call, at once."""

from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

__version__ = "0.1.0"

_P = ParamSpec("_P")
_R = TypeVar("_R")


def setup(app: "Celery", dsn: str | None = None) -> None:
    """Let the workers of a Celery application run each route's task once at a time, cluster-wide.

    Say it once, where the application is made. It concerns messages of routes with ``single_flight = "run"``:
    at most one run and one waiter per route, on all machines together; what comes beyond that is dropped, as
    the waiter will do its work. All other messages run as if nothing had been said. Tasks stay as they are:
    sync, bound, with autoretry, with classes of their own, in the pools prefork, threads and solo.

    Each run uses two connections of the database, kept for the next one; a pooler in transaction mode will
    do. The role needs no rights in schema ``pgreact``. Celery's time limits include the wait. If the database
    cannot be reached, the task fails (:class:`pgreact.worker.session.NotGuarded`) without running, and the
    daemon publishes again.

    Args:
        app: The application.
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
