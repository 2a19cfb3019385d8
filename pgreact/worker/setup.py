"""The implementations of :func:`pgreact.setup` and :func:`pgreact.single_flight`."""

import functools
import inspect
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import celery
from celery import Celery, signals
from celery.utils.imports import symbol_by_name

from pgreact.broker.message_headers import JOB, JOB_TASK, JOBS, ROUTE, TASK, as_job
from pgreact.broker.sending import directly
from pgreact.worker import counters
from pgreact.worker.bundle import BUNDLE_TASK
from pgreact.worker.bundle_task import register_bundle
from pgreact.worker.database import RouteId, WorkerDatabase, databases
from pgreact.worker.guard import CLEAN_EXITS, guard
from pgreact.worker.headers import id_header, task_id
from pgreact.worker.request import abandoning_request, on_unreadable
from pgreact.worker.runnable import call_signature, unrunnable
from pgreact.worker.strategy import register
from pgreact.worker.transactional import Transactional, install

CANVAS = "pgreact.run_canvas"  # the task of a job that is a chain, a group or a chord
CANARY = "pgreact.canary"  # the task of the job by which the leader measures the whole way

_log = logging.getLogger("pgreact.worker")

P = ParamSpec("P")
R = TypeVar("R")


# By Celery's applications.
_transactional: "weakref.WeakKeyDictionary[Any, Transactional]" = weakref.WeakKeyDictionary()


def setup(app: Celery, dsn: str | None = None, transactional: object = False) -> None:
    """Guard the tasks of an application; see :func:`pgreact.setup`."""
    if app in databases:  # a later call keeps what it leaves out
        if dsn is not None:
            databases[app].given = dsn
        _transactional[app].set(transactional)
        return
    calls = Transactional()
    calls.set(transactional)
    database = databases[app] = WorkerDatabase(dsn)
    _transactional[app] = calls
    counters.share()
    install(app, database, calls)

    def guard_tasks(**_: object) -> None:
        for task in list(app.tasks.values()):
            if task.name not in {JOB_TASK, BUNDLE_TASK}:
                guard(task, database)

    def on_worker_init(**_: object) -> None:
        database.main_pid = os.getpid()
        database.require_dsn()
        # these load Celery's worker: a process that only sends need not
        from pgreact.worker import bundle_commands, report

        report.register()
        bundle_commands.register()
        _send_as_jobs(app)
        guard_tasks()
        for task in list(app.tasks.values()):
            task.Request = abandoning_request(symbol_by_name(task.Request))  # type: ignore[assignment]

    @app.task(name=CANVAS, shared=False, ignore_result=True)
    def run_canvas(signature: dict[str, Any]) -> None:
        """Send the tasks of a canvas."""
        with directly():
            app.signature(signature).apply_async()

    @app.task(name=CANARY, shared=False, ignore_result=True)
    def canary() -> None:
        """Do nothing: its way through queue and broker is what counts."""

    register(app, on_unreadable)
    register_bundle(app)
    app.on_after_finalize.connect(guard_tasks, weak=False)
    # Modules imported later bring more tasks. At this signal the worker has imported all of them, but has not
    # built its tracers, which keep task.run as it is then, and has not forked.
    signals.worker_init.connect(on_worker_init, weak=False)
    # by this signal Celery has set up its log
    signals.celeryd_after_setup.connect(lambda **_: _log.info("runs jobs of %s", database.shown), weak=False)
    if app.finalized:  # type: ignore[attr-defined]
        guard_tasks()


def _send_as_jobs(app: Celery) -> None:
    """Send the messages of a job, replacements and requeued ones, under the name that the daemon uses."""
    sender = app.amqp.send_task_message

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        headers = options.get("headers") or {}
        if JOB in headers:
            as_job(message, options, name)
        elif JOBS in headers:
            as_job(message, options, headers[TASK])
        return sender(producer, name, message, **options)

    app.amqp.send_task_message = send_task_message  # type: ignore[misc]


def single_flight(route: str, dsn: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Guard every call of one task; see :func:`pgreact.single_flight`."""
    route_id = RouteId(route, WorkerDatabase(dsn))

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
            return route_id.database.single_flight.run(
                route_id.get(id_header(request, ROUTE)),
                task_id(request),
                functools.partial(function, *args, **kwargs),
                CLEAN_EXITS,
            )

        # Celery checks the arguments of a call by this signature, and does not look for it in __wrapped__.
        guarded.__signature__ = call_signature(function)  # type: ignore[attr-defined]
        return guarded

    return decorate
