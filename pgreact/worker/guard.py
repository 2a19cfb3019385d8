"""Wrap the ``run`` of a task, so that a job's message runs under a lease, and a route's message in a flight.

How a run of a job ends, and its settlement:

==================================================== ====================================================
the task                                             the settlement
==================================================== ====================================================
cannot be run by Celery, or not with these arguments abandoned: ``invalid``
exceeds its soft time limit before it has started    abandoned: ``failed``
returns                                              settled: ``done``
returns a coroutine                                  settled: ``invalid``
asks for a retry of Celery's                         postponed
is replaced by another task                          snoozed until that is due
is replaced by a chain, group or chord               settled: ``done``; those are plain messages
raises ``Ignore``                                    settled: ``done``
raises ``Reject``, to be requeued, with late acks    snoozed: the broker delivers the message again
raises ``Reject``, to be requeued, with early acks   settled: ``lost``; the message is gone
raises ``Reject`` since the broker is away           settled: ``failed``; Celery does that in ``retry()``
raises ``Reject`` otherwise                          settled: ``rejected``
raises any other ``Exception``                       settled: ``failed``
ends its process, which is the worker's main one     settled: ``lost``
ends its process, a child                            none here: :mod:`pgreact.worker.request` abandons it
==================================================== ====================================================
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import Ignore, OperationalError, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.time import maybe_iso8601, maybe_make_aware

from pgreact import tracing
from pgreact.broker.message_headers import AGAIN, ATTEMPT, BEFORE, CLAIM, DATABASE, JOB, ROUTE
from pgreact.broker.sending import directly, sending_as
from pgreact.errors import NotGuarded
from pgreact.worker.database import WorkerDatabase
from pgreact.worker.headers import BUNDLED, ENTERED, header, id_header, run_of, task_id
from pgreact.worker.jobs import Jobs, OtherDatabase
from pgreact.worker.requeue import requeue
from pgreact.worker.retry import retry_message
from pgreact.worker.run import Run, Settlement, abandoned, error_text, postponed, settled, snoozed
from pgreact.worker.runnable import call_signature, checked_result, unrunnable

if TYPE_CHECKING:
    from pgreact.worker.bundle_loop import BundleLoop

# Exceptions that are no failure of a task. A retry comes as a message of its own, guarded like this one.
CLEAN_EXITS = (Retry, Ignore, Reject)
# Attributes of a request.
_REPLACED = "_pgreact_replaced"  # seconds until the task is due that replaces this one
_RETRIED = "_pgreact_retried"  # the message of the retry that the task asked for, and seconds until it is due
_CANVASES = {"chain", "group", "chord"}

_log = logging.getLogger("pgreact.worker")


def guard(task: "Task[Any, Any]", database: WorkerDatabase) -> None:
    """Wrap a task's ``run``, ``on_replace`` and ``signature_from_request``, once.

    Args:
        task: The task. Calls of it that are not by a message of ours run as before.
        database: Which has the jobs, and in which flights take their locks.
    """
    inner = task.run
    if getattr(inner, "_pgreact_guarded", False):
        return
    if reason := unrunnable(inner):
        _log.warning("task.unrunnable: %s: %s; as a job it is invalid", task.name, reason)

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        job = id_header(request, JOB)
        # a body that calls its own task.run() is still the same run
        if job is not None and not getattr(request, ENTERED, False):
            setattr(request, ENTERED, True)
            body = functools.partial(inner, *args, **kwargs)
            jobs, attempt = getattr(request, BUNDLED, None) or (database.jobs, run_of(request, job))
            return _run_job(task, request, database, jobs, attempt, body, reason)
        route = id_header(request, ROUTE)
        if route is None or job is not None:
            with _sending(task):
                return inner(*args, **kwargs)
        return _run_flight(task, database, route, functools.partial(inner, *args, **kwargs), reason)

    # wraps() copies attributes too, and the signature that a decorator left may name the self bound here
    run.__signature__ = call_signature(inner)  # type: ignore[attr-defined]
    run._pgreact_guarded = True  # type: ignore[attr-defined]
    task.run = run  # type: ignore[method-assign]
    task.on_replace = _continuing_attempt(task, task.on_replace)  # type: ignore[method-assign,assignment]
    task.signature_from_request = _keeping_retry(task, task.signature_from_request)  # type: ignore[method-assign]


def _sending(task: "Task[Any, Any]") -> contextlib.AbstractContextManager[None]:
    """Return the context of a body: what Celery's own tasks send goes on with a canvas."""
    return sending_as("direct" if task.name.startswith("celery.") else "task")


def _run_job(
    task: "Task[Any, Any]",
    request: Any,
    database: WorkerDatabase,
    jobs: "Jobs | BundleLoop",
    run: Run,
    body: "functools.partial[Any]",
    unfit: str | None,
) -> Any:
    if unfit:
        jobs.end(abandoned(run, "invalid", unfit))
        raise TypeError(f"{task.name}: {unfit}")
    if task.typing and (check := getattr(task, "__header__", None)):
        try:
            check(*body.args, **body.keywords)
        except TypeError as error:
            jobs.end(abandoned(run, "invalid", f"the arguments do not fit the task: {error}"))
            raise
    try:
        with tracing.continuing("pgreact.start", request, {"pgreact.job": run.job}):
            started = jobs.start(run)
        if not started:
            raise Ignore
    except OtherDatabase as error:
        requeue(task, error)
        raise Ignore from error
    except SoftTimeLimitExceeded as error:
        # the attempt may have been taken, or not
        jobs.end_later(abandoned(run, "failed", error_text(error)))
        raise
    try:
        with _sending(task):
            result = body()
    except BaseException as error:
        if settlement := settlement_of_error(
            run, error, request, acks_late=task.acks_late, main_pid=database.main_pid
        ):
            jobs.end(settlement)
        else:
            jobs.leave(run)
        failed = settlement is not None and settlement.outcome == "failed"
        if failed and isinstance(error, Exception) and header(request, AGAIN):
            # to Celery it is a retry: no result yet, and no call of ``link_error``
            raise Retry(exc=error) from error
        raise
    try:
        checked_result(result, task.name)
    except TypeError as error:
        jobs.end(settled(run, "invalid", str(error)))
        raise
    jobs.end(_after_return(run, request))
    return result


def _after_return(run: Run, request: Any) -> Settlement:
    """Return the settlement of a run that returned or raised ``Ignore``: another message may follow it."""
    if (retried := getattr(request, _RETRIED, None)) is not None:  # by retry(throw=False)
        return postponed(run, *retried)
    pause: float | None = getattr(request, _REPLACED, None)
    return settled(run, "done") if pause is None else snoozed(run, pause)


def settlement_of_error(
    run: Run, error: BaseException, request: Any, *, acks_late: bool, main_pid: int | None
) -> Settlement | None:
    """Return the settlement of a run that raised; ``None``: the main process settles it.

    Args:
        run: The run, which has started.
        error: What it raised.
        request: Its message.
        acks_late: The broker has the message until the run has ended.
        main_pid: The worker's main process.
    """
    retried = getattr(request, _RETRIED, None)
    if retried is not None and isinstance(error, Exception):
        message, pause = retried
        return postponed(run, message, pause, error_text(error))
    if isinstance(error, Ignore):
        return _after_return(run, request)
    if isinstance(error, Reject):
        requeued = bool(error.requeue)  # type: ignore[attr-defined]
        if requeued and acks_late:
            return snoozed(run, 0.0, redelivered=True)
        failed = isinstance(error.reason, OperationalError)  # type: ignore[attr-defined]
        outcome = "lost" if requeued else "failed" if failed else "rejected"
    elif isinstance(error, Exception):
        outcome = "failed"
    elif os.getpid() == main_pid:
        outcome = "lost"
    else:
        return None  # the main process knows why this child ends
    return settled(run, outcome, error_text(error))


def _run_flight(
    task: "Task[Any, Any]",
    database: WorkerDatabase,
    route: int,
    body: "functools.partial[Any]",
    unfit: str | None,
) -> Any:
    if unfit:
        raise TypeError(f"{task.name}: {unfit}")
    single_flight, started = database.single_flight, False

    def start() -> Any:
        nonlocal started
        started = True
        with _sending(task):
            return checked_result(body(), task.name)

    try:
        result = single_flight.run(route, task_id(task.request), start, CLEAN_EXITS)
    except NotGuarded as error:
        if started:
            raise  # by another flight, in the body
        # the daemon learns that it did not start, and publishes again
        single_flight.start_trouble.failed(error, task.name)
        raise Ignore from error
    single_flight.start_trouble.recovered()
    return result


def _continuing_attempt(task: "Task[Any, Any]", inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap ``on_replace``: the task that replaces a job's continues its attempt, as its next message.

    A chain, group or chord does not: its last task may never run, and nothing would settle the attempt. It is
    sent, and the job is done.
    """

    @functools.wraps(inner)
    def on_replace(signature: Any) -> Any:
        request = task.request
        job = id_header(request, JOB)
        if job is None or request.is_eager or signature.get("subtask_type") in _CANVASES:
            with directly():  # a rollback by ``Ignore`` must not take the task that replaces this one
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
        except Ignore:  # the replacement was sent
            setattr(request, _REPLACED, _pause(options.get("eta") or options.get("countdown"), task.app))
            raise

    return on_replace


def _keeping_retry(task: "Task[Any, Any]", inner: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``signature_from_request``: keep the retry that a job's task asks for, do not send it."""

    @functools.wraps(inner)
    def signature_from_request(request: Any = None, *given: Any, **options: Any) -> Any:
        signature = inner(request, *given, **options)
        found = task.request if request is None else request
        if "retries" in options and id_header(found, JOB) is not None and not found.is_eager:

            def keep(*_: object, **__: object) -> None:
                pause = _pause(options.get("eta") or options.get("countdown"), task.app)
                setattr(found, _RETRIED, (retry_message(task, signature), pause))

            signature.apply_async = keep
        return signature

    return signature_from_request


def _pause(when: Any, app: Celery) -> float:
    """Return the seconds until a message is due, by this machine's clock."""
    if (isinstance(when, datetime | str)) and (at := maybe_iso8601(when)):
        at = maybe_make_aware(at, app.timezone)
        when = (at - datetime.now(UTC)).total_seconds()
    return max(0.0, float(when or 0.0))
