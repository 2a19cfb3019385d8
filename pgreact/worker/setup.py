"""The doors for Celery: every task of an application, or one task by a decorator."""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import celery
from celery import Celery, Task, signals
from celery.exceptions import Ignore, OperationalError, Reject, Retry
from celery.utils.imports import symbol_by_name
from celery.utils.time import maybe_iso8601, maybe_make_aware

from pgreact.worker.deaths import watching
from pgreact.worker.door import Door, Named, doors
from pgreact.worker.jobs import Run, Word, described, given_up, held, settled
from pgreact.worker.message import ENTERED, JOB, ROUTE, number, run_of, task_id

CANVAS = "pgreact.run_canvas"  # the task of a job that is a chain, a group or a chord
# By these a task ends in order: a retry comes as a message of its own, guarded like this one.
_FINISHES = (Retry, Ignore, Reject)

P = ParamSpec("P")
R = TypeVar("R")


def setup(app: Celery, dsn: str | None = None) -> None:
    """Guard the messages of routes with ``single_flight = "run"``, and of jobs; see :func:`pgreact.setup`."""
    if app in doors:
        doors[app].given = dsn
        return
    door = doors[app] = Door(dsn)

    def guard_tasks(**_: object) -> None:
        for task in list(app.tasks.values()):
            _guard(task, door)

    def worker_begins(**_: object) -> None:
        door.main_pid = os.getpid()
        guard_tasks()
        for task in list(app.tasks.values()):
            task.Request = watching(symbol_by_name(task.Request))  # type: ignore[assignment]

    @app.task(name=CANVAS, shared=False, ignore_result=True)
    def run_canvas(signature: dict[str, Any]) -> None:
        """Send the tasks of a canvas."""
        app.signature(signature).apply_async()

    app.on_after_finalize.connect(guard_tasks, weak=False)
    # Modules imported after that bring more tasks. The worker has imported all of them by the time of this
    # signal, and has not yet built its tracers, which keep task.run as it is then; nor has it forked.
    signals.worker_init.connect(worker_begins, weak=False)
    if app.finalized:  # type: ignore[attr-defined]
        guard_tasks()


def _guard(task: "Task[Any, Any]", door: Door) -> None:
    inner = task.run
    if getattr(inner, "_pgreact_guarded", False):
        return

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        job = number(request, JOB)
        # a body that calls its own task.run() is still the same run
        if job is not None and not getattr(request, ENTERED, False):
            setattr(request, ENTERED, True)
            return _run_job(task, door, run_of(request, job), functools.partial(inner, *args, **kwargs))
        route = number(request, ROUTE)
        if route is None or job is not None:
            return inner(*args, **kwargs)
        return door.flights.run(route, task_id(request), functools.partial(inner, *args, **kwargs), _FINISHES)

    # wraps() copies attributes too, and the signature that a decorator left may name the self bound here
    run.__signature__ = _signature(inner)  # type: ignore[attr-defined]
    run._pgreact_guarded = True  # type: ignore[attr-defined]
    task.run = run  # type: ignore[method-assign]


def _run_job(task: "Task[Any, Any]", door: Door, run: Run, body: "functools.partial[R]") -> R:
    jobs = door.jobs
    if task.typing and (check := getattr(task, "__header__", None)):
        try:
            check(*body.args, **body.keywords)
        except TypeError as error:
            jobs.end(given_up(run, "invalid", f"the arguments do not fit the task: {error}"))
            raise
    if not jobs.start(run):
        raise Ignore
    try:
        result = body()
    except BaseException as error:
        if word := _word(run, error, task, door):
            jobs.end(word)
        else:
            jobs.leave(run)
        raise
    jobs.end(settled(run, "done"))
    return result


def _word(run: Run, error: BaseException, task: "Task[Any, Any]", door: Door) -> Word | None:
    """Return what is to be told of a run that ended by an exception; ``None``: somebody else will."""
    if isinstance(error, Retry):
        return held(run, _pause(error, task.app))
    if isinstance(error, Ignore):
        return settled(run, "done")
    if isinstance(error, Reject):
        again = bool(error.requeue)  # type: ignore[attr-defined]
        if again and task.acks_late:
            return held(run, 0.0, redelivered=True)
        # acknowledged early, it does not come again; task.retry() rejects while the broker is away
        failed = isinstance(error.reason, OperationalError)  # type: ignore[attr-defined]
        outcome = "lost" if again else "failed" if failed else "rejected"
    elif isinstance(error, Exception):
        outcome = "failed"
    elif os.getpid() == door.main_pid:
        outcome = "lost"
    else:
        return None  # the main process knows why this child ends
    return settled(run, outcome, described(error))


def _pause(retry: Retry, app: Celery) -> float:
    """Return the seconds until a retry, by this machine's clock alone."""
    when: Any = retry.when
    if (isinstance(when, datetime | str)) and (at := maybe_iso8601(when)):
        at = maybe_make_aware(at, app.timezone)
        when = (at - datetime.now(UTC)).total_seconds()
    return max(0.0, float(when or 0.0))


def single_flight(route: str, dsn: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Guard every call of one task; see :func:`pgreact.single_flight`."""
    named = Named(route, Door(dsn))

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        if not inspect.isroutine(function) and hasattr(function, "apply_async"):
            raise TypeError(
                f'@pgreact.single_flight("{route}") stands above @app.task: write it below, at the function'
            )

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
            task = celery.current_task
            request = task.request if task else None
            route_id = named.id(number(request, ROUTE))
            return named.door.flights.run(
                route_id, task_id(request), functools.partial(function, *args, **kwargs), _FINISHES
            )

        # Celery checks the arguments of a call by the signature, and does not look for it in __wrapped__.
        guarded.__signature__ = _signature(function)  # type: ignore[attr-defined]
        return guarded

    return decorate


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # a name imported for type checkers only must not fail the import of the task
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)
