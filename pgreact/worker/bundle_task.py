"""The Celery task that runs a bundle: each of its jobs by the tracer of that job's own task.

So signals, autoretry, ``before_start``, result backend and log of a job are as with a message of its own, and
Celery's tracer sees nothing of the bundle itself.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, Task, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer, trace_ok_t

from pgreact.broker.json_reader import read
from pgreact.broker.message_headers import AGAIN, ATTEMPT, DATABASE, JOBS, PUBLISH_S, TASK, parse_seconds
from pgreact.postgres.errors import describe
from pgreact.worker.bundle import BUNDLE_TASK, BundledJob, Unreadable, keeps_failure, pace_of, read_bundle
from pgreact.worker.bundle_events import WANTED, Record, record
from pgreact.worker.bundle_loop import BundleLoop, Item
from pgreact.worker.bundle_settlements import NOBODY, HandedBack
from pgreact.worker.bundle_watch import watch
from pgreact.worker.database import WorkerDatabase, databases
from pgreact.worker.guard import settlement_of_error
from pgreact.worker.headers import BUNDLED, header
from pgreact.worker.jobs import Jobs, OtherDatabase
from pgreact.worker.requeue import requeue
from pgreact.worker.run import Run, settled, worker_name

SKIPPED = "pgreact_skipped"  # a header that the main process adds: the ids of jobs that were revoked
APART = "pgreact_apart"  # likewise: why each job needs a message of its own in this worker

# Of the bundle's own message: no job's request has them.
_OF_BUNDLE = {JOBS, SKIPPED, APART, WANTED, "args", "kwargs", "argsrepr", "kwargsrepr", "headers"}
_NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

_log = logging.getLogger("pgreact.worker")
_apart: set[tuple[str, str]] = set()  # logged


class Bundle(Task):  # type: ignore[type-arg]
    """The base class of the task."""

    ignore_result = True
    acks_late = False
    track_started = False
    send_events = False  # the events are those of the jobs
    typing = False
    rate_limit: Any = 0  # none, whatever the application's default
    Request = "pgreact.worker.bundle_request:BundleRequest"

    @property  # Celery sets its own tracer when a worker starts, and again in each child
    def __trace__(self) -> Any:
        return self._trace

    @__trace__.setter
    def __trace__(self, _tracer: object) -> None:
        pass

    def _trace(self, uuid: str, args: Any, _kwargs: Any, request: Any = None) -> Any:
        """Run a bundle; take the place of Celery's tracer, whose answer this is. It has the events."""
        records: list[Record] = []
        try:
            _run(self, args, dict(request or {}), records)
        except Exception:  # noqa: BLE001 - leases let the leader publish the jobs again, one by one
            _log.exception("bundle.failed: task %s", uuid)
        retstr: Any = records
        return trace_ok_t(None, None, 0.0, retstr)


def _run(bundle: "Task[Any, Any]", args: Any, request: dict[str, Any], records: list[Record]) -> None:
    app: Celery = bundle.app
    context = Context(request)
    name = str(header(context, TASK))
    database, task = databases.get(app), app.tasks.get(name)
    try:
        todo = read_bundle(args, header(context, JOBS))
    except Unreadable as error:
        _log.error("bundle.unreadable: task %s: %s; its jobs come again after their leases", name, error)
        return
    if database is None or task is None:
        _log.error("bundle.failed: no task %s in a child of worker %s", name, context.hostname)
        return
    skipped = set(header(context, SKIPPED) or ())  # type: ignore[call-overload]
    places = {job.id: place for place, job in enumerate(todo)}
    tracer = JobTracer(task, request, database, places, records if header(context, WANTED) else None)
    todo = [job for job in todo if job.id not in skipped]
    if not todo:
        return
    worker = worker_name(context.hostname, os.getpid())
    jobs = database.jobs
    try:
        of = header(context, DATABASE)
        run = Run(todo[0].id, "", 0, worker, todo[0].task_id, of if isinstance(of, str) else None)
        jobs.check_database(run)
    except OtherDatabase as error:
        added = {SKIPPED, APART, WANTED, "headers"}
        requeue(bundle, error, Context({key: value for key, value in request.items() if key not in added}))
        return
    if reason := header(context, APART):
        _return_apart(name, jobs, todo, str(reason))
        return
    publish_s = parse_seconds(header(context, PUBLISH_S))
    loop = BundleLoop(
        jobs, todo, worker, pace_of(name), arguments, stopping=_is_stopping, publish_s=publish_s
    )
    watch().add(loop)
    try:
        loop.run(tracer.trace)
    finally:
        watch().remove(loop)


def arguments(job: BundledJob) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a job.

    Raises:
        Exception: They cannot be read; see :func:`pgreact.broker.json_reader.read`.
    """
    args = [] if job.args == "[]" else read(job.args, marked=True)
    kwargs = {} if job.kwargs == "{}" else read(job.kwargs, marked=True)
    return args, kwargs


class JobTracer:
    """Runs jobs by the tracer of their task, each with a request like that of a message of its own."""

    def __init__(
        self,
        task: "Task[Any, Any]",
        request: Mapping[str, Any],
        database: WorkerDatabase,
        places: Mapping[int, int],
        records: list[Record] | None,
    ) -> None:
        """Prepare.

        Args:
            task: The task of the jobs.
            request: That of the bundle.
            database: Of the jobs.
            places: Of the jobs in the bundle, by id.
            records: Takes what happens, for Celery's events; ``None``: there are none.
        """
        own = {key: value for key, value in request.items() if key not in _OF_BUNDLE}
        embedded = request.get("headers")  # where Celery's first protocol has them
        if isinstance(embedded, Mapping):
            own = {**{key: value for key, value in embedded.items() if key not in _OF_BUNDLE}, **own}
        self._request = {**own, **_NO_CANVAS, "task": task.name, "is_eager": False, "retries": 0}
        self._headers = Context(self._request).headers or {}
        self._task = task
        self._main_pid = database.main_pid
        self._places = places
        self._records = records
        self._wall = time.time() - time.monotonic()
        app = task.app
        self._trace = task.__trace__ or build_tracer(
            task.name, task, app.loader, request.get("hostname"), app=app
        )
        if task.__trace__ is None:
            task.__trace__ = self._trace

    def request(self, job: BundledJob) -> dict[str, Any]:
        """Return the request of a job."""
        own = job.headers()
        own[ATTEMPT] = job.attempt
        if job.again:
            own[AGAIN] = True
        task_id = job.task_id
        request = {**self._request, **own}
        request["id"] = request["root_id"] = request["correlation_id"] = task_id
        request["headers"] = {**self._headers, **own}
        return request

    def trace(self, loop: BundleLoop, item: Item) -> None:
        """Run a job, and see to it that it is settled."""
        run, job, args, kwargs = item
        request = self.request(job)
        request[BUNDLED] = loop, run
        began = time.monotonic() if self._records is not None else 0.0
        try:
            traced = self._trace(job.task_id, args, kwargs, request)
        except Exception as error:  # noqa: BLE001 - it is the error of one job
            _log.exception("bundle.failed: %s: outside its body", run)
            traced = trace_ok_t(None, TraceInfo(states.FAILURE, error), 0.0, None)
        if run.pid != os.getpid():
            return
        info = traced[1]
        if not loop.settled:
            loop.end(self._settlement(run, info))
        if info is not None and info.state == states.REJECTED:
            self._record_rejection(job, args, kwargs, request, info.retval)
        if self._records is not None:
            lasted = time.monotonic() - began
            self._records.append(record(self._places[job.id], self._wall + began, lasted, traced))

    def _settlement(self, run: Run, info: Any) -> Any:
        """Return the settlement of a run that ended without the guard: outside its body."""
        if info is None:
            return settled(run, "done")
        return settlement_of_error(run, info.retval, None, acks_late=False, main_pid=self._main_pid)

    def _record_rejection(
        self, job: BundledJob, args: list[Any], kwargs: dict[str, Any], request: dict[str, Any], error: Any
    ) -> None:
        """Store the result of a rejected job, as a worker's main process does for a message of its own."""
        if error.requeue:
            return
        context = Context(request, args=args, kwargs=kwargs)
        task = self._task
        try:
            task.backend.mark_as_failure(
                job.task_id,
                error,
                request=context,
                store_result=keeps_failure(task, context),
            )
        except Exception as failure:  # noqa: BLE001 - the job is settled
            _log.warning("bundle.failed: job %s: its result cannot be stored: %s", job.id, describe(failure))


def _return_apart(task: str, jobs: Jobs, todo: Sequence[BundledJob], reason: str) -> None:
    """Hand the jobs of a bundle back; the leader sends each as a message of its own."""
    if (task, reason) not in _apart:
        _apart.add((task, reason))
        _log.warning(
            "bundle.split: %s: %s in this worker, which the daemon does not know: the jobs of its bundles go "
            "back to the queue, and are sent again alone; give both the same configuration, or the lane "
            "bundle = 1",
            task,
            reason,
        )
    jobs.renewer.send_later(HandedBack([(job.id, job.claim) for job in todo], NOBODY, alone=True))


def _is_stopping() -> bool:
    """Return whether this process is a worker that is to end, and runs the bundle itself."""
    state = sys.modules.get("celery.worker.state")
    return state is not None and state.should_stop not in {None, False}


def register_bundle(app: Celery) -> None:
    """Register the task of an application that runs bundles."""

    @app.task(name=BUNDLE_TASK, shared=False, base=Bundle)
    def bundle(_text: str) -> None:
        raise RuntimeError(f"{BUNDLE_TASK} runs the messages of bundles; call the task itself")
