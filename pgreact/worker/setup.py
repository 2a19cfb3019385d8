"""The doors for Celery: every task of an application, or one task by a decorator."""

import functools
import inspect
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import celery
import psycopg
from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject, Retry

from pgreact import settings
from pgreact.database import conninfo
from pgreact.database.connect import connect
from pgreact.errors import ConfigError, PgreactError
from pgreact.shipped import query
from pgreact.worker.flight import Flights
from pgreact.worker.session import NotGuarded

HEADER = "pgreact_route"  # the daemon's messages carry the route's id
# By these a task ends in order: a retry comes as a message of its own, guarded like this one.
_FINISHES = (Retry, Ignore, Reject)

P = ParamSpec("P")
R = TypeVar("R")


class _Door:
    """Where the locks are, found when a task first needs them: configuration may come after the import."""

    def __init__(self, dsn: str | None) -> None:
        self.given = dsn
        self._found: str | None = None

    @property
    def dsn(self) -> str:
        if self.given is not None:
            return self.given
        if self._found is None:
            self._found = os.environ.get("PGREACT_DSN") or settings.load(None).dsn
        return self._found

    @property
    def flights(self) -> Flights:
        dsn = self.dsn
        return _flights.get(dsn) or _flights.setdefault(dsn, Flights(dsn))


_flights: dict[str, Flights] = {}
_doors: "weakref.WeakKeyDictionary[Celery, _Door]" = weakref.WeakKeyDictionary()


def setup(app: Celery, dsn: str | None = None) -> None:
    """Guard the messages of routes with ``single_flight = "run"``; see :func:`pgreact.setup`."""
    if app in _doors:
        _doors[app].given = dsn
        return
    door = _doors[app] = _Door(dsn)

    def guard_tasks(**_: object) -> None:
        for task in list(app.tasks.values()):
            _guard(task, door)

    app.on_after_finalize.connect(guard_tasks, weak=False)
    # Modules imported after that bring more tasks. The worker has imported all of them by the time of this
    # signal, and has not yet built its tracers, which keep task.run as it is then; nor has it forked.
    signals.worker_init.connect(guard_tasks, weak=False)
    if app.finalized:  # type: ignore[attr-defined]
        guard_tasks()


def _guard(task: "Task[Any, Any]", door: _Door) -> None:
    inner = task.run
    if getattr(inner, "_pgreact_guarded", False):
        return

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        route = _route_of(task.request)
        if route is None:
            return inner(*args, **kwargs)
        return door.flights.run(
            route, _task_id(task.request), functools.partial(inner, *args, **kwargs), _FINISHES
        )

    # wraps() copies attributes too, and the signature that a decorator left may name the self bound here
    run.__signature__ = _signature(inner)  # type: ignore[attr-defined]
    run._pgreact_guarded = True  # type: ignore[attr-defined]
    task.run = run  # type: ignore[method-assign]


def single_flight(route: str, dsn: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Guard every call of one task; see :func:`pgreact.single_flight`."""
    named = _Named(route, _Door(dsn))

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        if not inspect.isroutine(function) and hasattr(function, "apply_async"):
            raise TypeError(
                f'@pgreact.single_flight("{route}") stands above @app.task: write it below, at the function'
            )

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
            task = celery.current_task
            request = task.request if task else None
            number = named.id(_route_of(request))
            return named.door.flights.run(
                number, _task_id(request), functools.partial(function, *args, **kwargs), _FINISHES
            )

        # Celery checks the arguments of a call by the signature, and does not look for it in __wrapped__.
        guarded.__signature__ = _signature(function)  # type: ignore[attr-defined]
        return guarded

    return decorate


class _Named:
    """A route known by its name; the database is asked for its id once."""

    def __init__(self, name: str, door: _Door) -> None:
        self.name = name
        self.door = door
        self._id: int | None = None
        self._others: set[int] = set()

    def id(self, published_by: int | None) -> int:
        """Return the route's id.

        Args:
            published_by: The route whose message this is, if it is one. If that is not the one we know, ours
                may have been deleted and made anew: we ask again.

        Raises:
            ConfigError: There is no such route.
            NotGuarded: The database cannot be asked.
        """
        known = self._id
        if known is None or published_by not in {None, known, *self._others}:
            known = self._id = self._ask()
            if published_by is not None and published_by != known:
                self._others.add(published_by)
        return known

    def _ask(self) -> int:
        dsn = self.door.dsn
        try:
            with connect(dsn) as connection:
                ids: dict[str, int] = dict(connection.execute(query("route_ids").encode()).fetchall())
        except ConfigError:
            raise
        except PgreactError as error:
            hint = ""
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                hint = "; this role needs usage on schema pgreact and select on pgreact.route"
            raise NotGuarded(f'cannot look up route "{self.name}": {error}{hint}') from error
        if self.name not in ids:
            raise ConfigError(
                f'{conninfo.shown(dsn)}: no route "{self.name}"{settings.nearest(self.name, list(ids))}'
            )
        return ids[self.name]


def _route_of(request: Any) -> int | None:
    """Return the route whose message this is; ``None`` for all others."""
    value = getattr(request, HEADER, None)
    if value is None:
        headers = getattr(request, "headers", None)
        value = headers.get(HEADER) if headers else None
    if value is None:
        return None
    try:
        route = int(value)  # some brokers turn numbers into text
    except (TypeError, ValueError):
        raise NotGuarded(f"header {HEADER} is {value!r}, not the id of a route") from None
    if not 0 < route < 2**31:
        raise NotGuarded(f"header {HEADER} is {value!r}, not the id of a route")
    return route


def _task_id(request: Any) -> str:
    return getattr(request, "id", None) or str(uuid4())


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # a name imported for type checkers only must not fail the import of the task
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)
