"""The doors for Celery: every task of an application, or one task by a decorator."""

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import celery
from celery import Celery, Task, signals
from celery.exceptions import Ignore, OperationalError, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.imports import symbol_by_name
from celery.utils.time import maybe_iso8601, maybe_make_aware

from pgreact.broker.message_headers import (
    AGAIN,
    ATTEMPT,
    BEFORE,
    CLAIM,
    DATABASE,
    JOB,
    JOB_TASK,
    ROUTE,
    as_job,
)
from pgreact.errors import NotGuarded
from pgreact.worker.database import Door, Named, doors
from pgreact.worker.hand_back import hand_back
from pgreact.worker.headers import ENTERED, header, number, run_of, task_id
from pgreact.worker.jobs import Foreign, Run, Word, described, given_up, held, postponed, settled
from pgreact.worker.request import on_unreadable, watching
from pgreact.worker.retry import resumption
from pgreact.worker.runnable import returned, unrunnable
from pgreact.worker.strategy import register

CANVAS = "pgreact.run_canvas"  # the task of a job that is a chain, a group or a chord
# By these a task ends in order: a retry comes as a message of its own, guarded like this one.
_FINISHES = (Retry, Ignore, Reject)
_REPLACED = "_pgreact_replaced"  # of a request: the seconds until the task is due that replaces this one
_RETRIED = "_pgreact_retried"  # of a request: the message that its task asked for, and the seconds until then
_CANVASES = {"chain", "group", "chord"}

_log = logging.getLogger("pgreact.worker")

P = ParamSpec("P")
R = TypeVar("R")


def setup(app: Celery, dsn: str | None = None) -> None:
    """Guard the messages of routes with ``single_flight = "run"``, and of jobs; see :func:`pgreact.setup`."""
    if app in doors:
        if dsn is not None:  # who calls again without one has nothing to say of it
            doors[app].given = dsn
        return
    door = doors[app] = Door(dsn)

    def guard_tasks(**_: object) -> None:
        for task in list(app.tasks.values()):
            if task.name != JOB_TASK:
                _guard(task, door)

    def worker_begins(**_: object) -> None:
        door.main_pid = os.getpid()
        door.refuse_none()
        _name_jobs(app)
        guard_tasks()
        for task in list(app.tasks.values()):
            task.Request = watching(symbol_by_name(task.Request))  # type: ignore[assignment]

    @app.task(name=CANVAS, shared=False, ignore_result=True)
    def run_canvas(signature: dict[str, Any]) -> None:
        """Send the tasks of a canvas."""
        app.signature(signature).apply_async()

    register(app, on_unreadable)
    app.on_after_finalize.connect(guard_tasks, weak=False)
    # Modules imported after that bring more tasks. The worker has imported all of them by the time of this
    # signal, and has not yet built its tracers, which keep task.run as it is then; nor has it forked.
    signals.worker_init.connect(worker_begins, weak=False)
    # by then its log is there
    signals.celeryd_after_setup.connect(lambda **_: _log.info("runs jobs of %s", door.shown), weak=False)
    if app.finalized:  # type: ignore[attr-defined]
        guard_tasks()


def _name_jobs(app: Celery) -> None:
    """Let messages of replacing tasks, and those handed back, be taken as the daemon's are."""
    sender = app.amqp.send_task_message

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        if JOB in (options.get("headers") or {}):
            as_job(message, options, name)
        return sender(producer, name, message, **options)

    app.amqp.send_task_message = send_task_message  # type: ignore[misc]


def _guard(task: "Task[Any, Any]", door: Door) -> None:
    inner = task.run
    if getattr(inner, "_pgreact_guarded", False):
        return
    if reason := unrunnable(inner):
        _log.warning("task.unrunnable: %s: %s; as a job it is invalid", task.name, reason)

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        job = number(request, JOB)
        # a body that calls its own task.run() is still the same run
        if job is not None and not getattr(request, ENTERED, False):
            setattr(request, ENTERED, True)
            body = functools.partial(inner, *args, **kwargs)
            return _run_job(task, door, run_of(request, job), body, reason)
        route = number(request, ROUTE)
        if route is None or job is not None:
            return inner(*args, **kwargs)
        return _run_flight(task, door, route, functools.partial(inner, *args, **kwargs), reason)

    # wraps() copies attributes too, and the signature that a decorator left may name the self bound here
    run.__signature__ = _signature(inner)  # type: ignore[attr-defined]
    run._pgreact_guarded = True  # type: ignore[attr-defined]
    task.run = run  # type: ignore[method-assign]
    task.on_replace = _replacing(task, task.on_replace)  # type: ignore[method-assign,assignment]
    task.signature_from_request = _retrying(task, task.signature_from_request)  # type: ignore[method-assign]


def _run_job(
    task: "Task[Any, Any]", door: Door, run: Run, body: "functools.partial[Any]", unfit: str | None
) -> Any:
    jobs = door.jobs
    if unfit:
        jobs.end(given_up(run, "invalid", unfit))
        raise TypeError(f"{task.name}: {unfit}")
    if task.typing and (check := getattr(task, "__header__", None)):
        try:
            check(*body.args, **body.keywords)
        except TypeError as error:
            jobs.end(given_up(run, "invalid", f"the arguments do not fit the task: {error}"))
            raise
    try:
        if not jobs.start(run):
            raise Ignore
    except Foreign as error:
        hand_back(task, error)
        raise Ignore from error
    except SoftTimeLimitExceeded as error:
        # it may have been taken, or not
        jobs.tell(given_up(run, "failed", described(error)))
        raise
    try:
        result = body()
    except BaseException as error:
        if word := _word(run, error, task, door):
            jobs.end(word)
        else:
            jobs.leave(run)
        if word and word.what == "failed" and isinstance(error, Exception) and header(task.request, AGAIN):
            # to Celery it is a retry: no result yet, and nobody's ``link_error``
            raise Retry(exc=error) from error
        raise
    try:
        returned(result, task.name)
    except TypeError as error:
        jobs.end(settled(run, "invalid", str(error)))
        raise
    jobs.end(_ended(run, task))
    return result


def _ended(run: Run, task: "Task[Any, Any]") -> Word:
    """Return the word of a run that ended in order: another task may have taken its place."""
    if (retried := getattr(task.request, _RETRIED, None)) is not None:  # by retry(throw=False)
        return postponed(run, *retried)
    pause: float | None = getattr(task.request, _REPLACED, None)
    return settled(run, "done") if pause is None else held(run, pause)


def _run_flight(
    task: "Task[Any, Any]", door: Door, route: int, body: "functools.partial[Any]", unfit: str | None
) -> Any:
    if unfit:
        raise TypeError(f"{task.name}: {unfit}")
    flights, began = door.flights, False

    def begin() -> Any:
        nonlocal began
        began = True
        return returned(body(), task.name)

    try:
        result = flights.run(route, task_id(task.request), begin, _FINISHES)
    except NotGuarded as error:
        if began:
            raise  # by another flight, in the body
        # the daemon knows that it did not begin, or will, and publishes again
        flights.taking.failed(error, task.name)
        raise Ignore from error
    flights.taking.over()
    return result


def _replacing(task: "Task[Any, Any]", inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let the task that replaces a job's go on with its attempt, by its next message.

    A chain, a group or a chord does not: its last task may never run, and no message would tell how the
    attempt ended. It is sent, and the job is done.
    """

    @functools.wraps(inner)
    def on_replace(signature: Any) -> Any:
        request = task.request
        job = number(request, JOB)
        if job is None or request.is_eager or signature.get("subtask_type") in _CANVASES:
            return inner(signature)
        run = run_of(request, job)
        ours: dict[str, object] = {JOB: job, BEFORE: run.retries + 1}
        ours |= {
            name: value
            for name in (CLAIM, DATABASE, ATTEMPT, AGAIN)
            if (value := header(request, name)) is not None
        }
        options = signature.options
        signature.set(headers={**(options.get("headers") or {}), **ours})
        try:
            return inner(signature)
        except Ignore:  # it was sent
            setattr(request, _REPLACED, _pause(options.get("eta") or options.get("countdown"), task.app))
            raise

    return on_replace


def _retrying(task: "Task[Any, Any]", inner: Callable[..., Any]) -> Callable[..., Any]:
    """Let the retry that a job's task asks for be kept with the job until it is due, and not be sent."""

    @functools.wraps(inner)
    def signature_from_request(request: Any = None, *given: Any, **options: Any) -> Any:
        signature = inner(request, *given, **options)
        found = task.request if request is None else request
        if "retries" in options and number(found, JOB) is not None and not found.is_eager:

            def keep(*_: object, **__: object) -> None:
                pause = _pause(options.get("eta") or options.get("countdown"), task.app)
                setattr(found, _RETRIED, (resumption(signature), pause))

            signature.apply_async = keep
        return signature

    return signature_from_request


def _word(run: Run, error: BaseException, task: "Task[Any, Any]", door: Door) -> Word | None:
    """Return what is to be told of a run that ended by an exception; ``None``: somebody else will."""
    retried = getattr(task.request, _RETRIED, None)
    if retried is not None and isinstance(error, Exception):
        message, pause = retried
        return postponed(run, message, pause, described(error))
    if isinstance(error, Ignore):
        return _ended(run, task)
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


def _pause(when: Any, app: Celery) -> float:
    """Return the seconds until a message is due, by this machine's clock alone."""
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

        if reason := unrunnable(function):
            raise TypeError(f'@pgreact.single_flight("{route}") at {function.__qualname__}: {reason}')

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
