"""The worker's main process abandons attempts that its children cannot settle.

==================================================== ==================================== ====================
case                                                 seen by                              outcome
==================================================== ==================================== ====================
a child exceeds the hard time limit                  ``Request.on_failure``               ``failed``
a child dies                                         ``Request.on_failure``               ``lost``
a task is revoked and terminated while it runs       ``Request.terminate``, or            ``revoked``
                                                     ``on_failure``
the worker stops cold or loses its broker            ``Request.cancel``                   ``lost``
a message expired, or its task was revoked before    signal ``task_revoked``              ``expired``,
                                                                                          ``revoked``
no task of this name                                 signal ``task_unknown``              ``invalid``
a message cannot be read                             signal ``task_rejected``, or the     ``invalid``
                                                     consumer's ``on_decode_error``
a task fails before its body, as in before_start     signal ``task_failure``              ``failed``
==================================================== ==================================== ====================
"""

import logging
from collections.abc import Mapping
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, Terminated, TimeLimitExceeded, WorkerLostError

from pgreact.broker.message_headers import CLAIM, JOB, OURS, unfit
from pgreact.postgres.errors import describe
from pgreact.worker.database import databases
from pgreact.worker.headers import BUNDLED, ENTERED, claim_of, header, id_header, run_of
from pgreact.worker.jobs import close_all
from pgreact.worker.run import abandoned, error_text, worker_name

log = logging.getLogger("pgreact.worker")
_requests: dict[type[Any], type[Any]] = {}


def abandoning_request(base: type[Any]) -> type[Any]:
    """Return a subclass of a class of Celery's requests that abandons the job of a child that dies."""
    if getattr(base, "_pgreact_abandoning", False):
        return base

    class Request(base):  # type: ignore[misc]
        _pgreact_abandoning = True

        def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
            headers = kwargs.get("headers") or message.headers or {}
            embedded = headers.get("headers")  # where Celery's first protocol has them
            ours = OURS & {*headers, *(embedded if isinstance(embedded, Mapping) else ())}
            # Any error raised here but InvalidTaskError ends the worker, and so does a header misread later.
            if ours and (reason := unfit(headers)):
                raise InvalidTaskError(reason)
            if JOB in ours and claim_of(context := Context(headers)) is None:
                raise InvalidTaskError(f"its header {CLAIM} is {header(context, CLAIM)!r}, not a UUID")
            try:
                super().__init__(message, *args, **kwargs)
            except InvalidTaskError:
                raise
            except Exception as error:
                if not ours:
                    raise
                raise InvalidTaskError(describe(error)) from error

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
            error = exc_info.exception
            if type(error).__name__ == "ExceptionWithTraceback":  # billiard's, which has no types
                error = error.exc
            if isinstance(error, TimeLimitExceeded):
                self._pgreact_abandon("failed", error)
            elif isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
                self._pgreact_abandon("lost", error)
            elif isinstance(error, Terminated):
                self._pgreact_abandon("revoked", error)
            return super().on_failure(exc_info, *args, **kwargs)

        def terminate(self, *args: Any, **kwargs: Any) -> None:
            super().terminate(*args, **kwargs)
            if self.time_start:
                self._pgreact_abandon("revoked", Terminated("its task was revoked while it ran"))

        def cancel(self, *args: Any, **kwargs: Any) -> None:
            super().cancel(*args, **kwargs)
            if self.time_start:
                self._pgreact_abandon("lost", WorkerLostError("its worker is stopping, or lost its broker"))

        def _pgreact_abandon(self, outcome: str, error: BaseException) -> None:
            text, request = error_text(error, frames=0), Context(self.request_dict)
            _abandon(self.app, request, outcome, text, self.hostname, self.worker_pid)

    return _requests.setdefault(base, Request)


def _on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: object) -> None:
    if terminated:
        return  # Request.terminate abandons it, and knows the child
    if expired:
        _abandon(sender.app, request, "expired", "its message expired")
    else:
        _abandon(sender.app, request, "revoked", "its task was revoked")


def _on_unknown(sender: Any, message: Any, name: str, id: str, **_: object) -> None:  # noqa: A002
    request = Context({"id": id, **(message.headers or {})})
    error = f'no task "{name}" in worker {sender.hostname}: import the module that defines it there'
    _abandon(sender.app, request, "invalid", error)


def _on_rejected(sender: Any, message: Any, exc: object, **_: object) -> None:
    on_unreadable(sender, message, exc)


def on_unreadable(consumer: Any, message: Any, error: object) -> None:
    """Abandon the attempt of a message that this worker cannot read.

    Args:
        consumer: The worker's.
        message: The message, with headers at least.
        error: Why it cannot be read.
    """
    request = Context(message.headers or {})
    # a header may have overwritten Celery's own
    if unfit({"retries": request.retries}):
        request.retries = 0
    _abandon(consumer.app, request, "invalid", f"its message cannot be read: {error}")


def _on_failure(sender: Any, exception: BaseException, **_: object) -> None:
    request = getattr(sender, "request", None)
    if request is None or getattr(request, ENTERED, False) or getattr(request, BUNDLED, None):
        return
    # It failed before its body. Request.on_failure abandons the job of a child that died, and the run of a
    # bundle settles its jobs.
    if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        _abandon(sender.app, request, "failed", error_text(exception))


signals.task_revoked.connect(_on_revoked)
signals.task_unknown.connect(_on_unknown)
signals.task_rejected.connect(_on_rejected)
signals.task_failure.connect(_on_failure)
# A child of a prefork pool does not run atexit's functions.
signals.worker_process_shutdown.connect(close_all)


def _abandon(
    app: Any, request: Any, outcome: str, error: str, hostname: str | None = None, pid: int | None = None
) -> None:
    """Abandon the attempt of a job's message in the background; do nothing for other messages.

    Args:
        app: The worker's application; nothing is done for one without ``pgreact.setup``.
        request: The message's headers, as attributes.
        outcome: As ``pgreact.settle`` takes it.
        error: Why.
        hostname: The worker's name, if the message ran.
        pid: The child that ran it.
    """
    database = databases.get(app)
    if database is None:
        return
    try:
        if job := id_header(request, JOB):
            run = run_of(request, job)
            run.worker = worker_name(hostname, pid)
            database.jobs.end_later(abandoned(run, outcome, error, pid))
    except Exception as failure:  # noqa: BLE001 - it must not end the worker
        log.warning("settlement.failed: task %s: %s: %s", request.id, outcome, describe(failure))
