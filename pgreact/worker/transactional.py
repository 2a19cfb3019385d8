"""Calls of tasks as jobs of the caller's transaction: ``pgreact.setup(app, transactional=…)``.

Each call of a task ends in the application's ``send_task``: ``delay``, ``apply_async`` (after a class's own),
signatures, the first task of a chain, each task of a group and of a chord's header, ``app.send_task``. Ids,
arguments and options are final there. Its hook enqueues a job instead of sending a message, except for:

==================================================== =========================================================
the call                                             since
==================================================== =========================================================
has ``connection``, ``producer`` or ``publisher``    its caller sends with that; a group's own producer does
                                                     not count
has ``retries``, or headers of a job or a route      it goes on with a message that exists
is made within :func:`pgreact.broker.sending.        the daemon publishes, ``pgreact.run_canvas`` starts a
directly`                                            canvas, or ``self.replace`` hands an id on
is Celery's own in a worker: the next task of a      the worker's transaction, if any, has nothing to do with
chain, a callback, a chord's body                    it
is not transactional                                 the call, else its task, else ``setup`` says so
==================================================== =========================================================
"""

import functools
import inspect
import os
import threading
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu import Producer

from pgreact.broker.message_headers import OURS
from pgreact.broker.sending import sender
from pgreact.errors import ConfigError
from pgreact.worker.database import WorkerDatabase
from pgreact.worker.transaction_source import OwnSessions, Source, django_source, source_of
from pgreact.worker.transactional_job import TaskCall

_PARAMETERS = tuple(inspect.signature(Celery.send_task).parameters)[1:]
OPTION = "transactional"  # of a call, and the attribute of a task


class Transactional:
    """The choice of ``setup`` for the calls of an application."""

    def __init__(self) -> None:
        self.by_default = False
        self._source: Source | None = None

    def set(self, given: object) -> None:
        """Take the argument ``transactional`` of ``setup``; ``False`` keeps that of an earlier call.

        Raises:
            TypeError: It is no source of transactions.
        """
        if given is not False:
            self._source, self.by_default = source_of(given), True

    @property
    def source(self) -> Source:
        """The source of the caller's transaction.

        Raises:
            ConfigError: ``setup`` names none, and Django is not in use.
        """
        return self._source or django_source()


def install(app: Celery, database: WorkerDatabase, transactional: Transactional) -> None:
    """Put the hook into an application, once.

    Args:
        app: The application.
        database: For calls outside a transaction.
        transactional: Read at each call.
    """
    own = vars(app).get("send_task")  # a wrapper that this application has already

    def inner(name: str, **options: Any) -> Any:
        # the class's is looked up at each call: a library may wrap it later
        return own(name, **options) if own else type(app).send_task(app, name, **options)

    @functools.wraps(app.send_task)
    def send_task(name: str, *given: Any, **named: Any) -> Any:
        options = dict(zip(_PARAMETERS[1:], given, strict=False)) | named
        chosen = options.pop(OPTION, None)
        if _goes_on(app, database, options):
            return inner(name, **options)
        task = options.get("task_type") or _registered(app, name)
        if chosen is None:
            chosen = getattr(task, OPTION, None)
        if not (transactional.by_default if chosen is None else _checked(name, chosen)):
            return inner(name, **options)
        return _enqueue(app, database, transactional.source, TaskCall(app, name, task, options))

    app.send_task = send_task  # type: ignore[method-assign]


def _enqueue(app: Celery, database: WorkerDatabase, source: Source, call: TaskCall) -> Any:
    """Enqueue a call; return Celery's result object of it."""
    payload = call.payload()
    if not source.enqueue(payload):
        (database.outside or OwnSessions.of(database.dsn)).enqueue(payload)
    result = call.result()
    if call.options.get("add_to_parent", True) and (parent := app.current_worker_task):
        parent.add_trail(result)
    return result


def _goes_on(app: Celery, database: WorkerDatabase, options: Mapping[str, Any]) -> bool:
    """Return whether a call is a message in any case; see the table of this module."""
    if options.get("connection") or options.get("retries") or sender() == "direct":
        return True
    producer = options.get("producer") or options.get("publisher")
    if producer is not None and not _is_of_group(producer, options):
        return True
    if not OURS.isdisjoint(options.get("headers") or ()):
        return True
    return sender() is None and _is_celerys(app, database)


def _is_of_group(producer: object, options: Mapping[str, Any]) -> bool:
    """Return whether a group gave its own producer to one of its tasks."""
    return (
        isinstance(producer, Producer)
        and bool(options.get("group_id"))
        and not options.get("add_to_parent", True)
    )


def _is_celerys(app: Celery, database: WorkerDatabase) -> bool:
    """Return whether code outside all bodies of tasks is that of a worker, not of the application."""
    if database.main_pid is None:
        return False  # no worker
    # around a task; or the consumer, which also calls back for children that died
    return app.current_worker_task is not None or (
        os.getpid() == database.main_pid and threading.current_thread() is threading.main_thread()
    )


def _registered(app: Celery, name: str) -> Any:
    """Return the task of a name, if this process has it; do not finalize the application for that."""
    return app.tasks.get(name) if app.finalized else None  # type: ignore[attr-defined]


def _checked(name: str, chosen: object) -> bool:
    if not isinstance(chosen, bool):
        raise ConfigError(f"{name}: transactional is {chosen!r}, neither True nor False")
    return chosen
