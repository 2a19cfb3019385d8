"""What a worker's main process sees of jobs that their children cannot tell of."""

import logging
from collections.abc import Mapping
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, Terminated, TimeLimitExceeded, WorkerLostError

from pgreact.broker.message_headers import CLAIM, JOB, OURS, unfit
from pgreact.postgres.errors import said
from pgreact.worker.database import doors
from pgreact.worker.headers import ENTERED, claim_of, header, number, run_of
from pgreact.worker.jobs import close_all, described, given_up, worker_name

_log = logging.getLogger("pgreact.worker")
_requests: dict[type[Any], type[Any]] = {}


def watching(base: type[Any]) -> type[Any]:
    """Return a class of Celery's requests that sees when a child dies with a job."""
    if getattr(base, "_pgreact_watching", False):
        return base

    class Request(base):  # type: ignore[misc]
        _pgreact_watching = True

        def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
            headers = kwargs.get("headers") or message.headers or {}
            embedded = headers.get("headers")  # where the first protocol leaves them
            ours = OURS & {*headers, *(embedded if isinstance(embedded, Mapping) else ())}
            # What is raised here but InvalidTaskError ends the worker, and so does what is read of it later.
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
                raise InvalidTaskError(said(error)) from error

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
            error = exc_info.exception
            if type(error).__name__ == "ExceptionWithTraceback":  # billiard's, which has no types
                error = error.exc
            if isinstance(error, TimeLimitExceeded):
                self._pgreact_tell("failed", error)
            elif isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
                self._pgreact_tell("lost", error)
            elif isinstance(error, Terminated):
                self._pgreact_tell("revoked", error)
            return super().on_failure(exc_info, *args, **kwargs)

        def terminate(self, *args: Any, **kwargs: Any) -> None:
            super().terminate(*args, **kwargs)
            if self.time_start:
                self._pgreact_tell("revoked", Terminated("its task was revoked while it ran"))

        def cancel(self, *args: Any, **kwargs: Any) -> None:
            super().cancel(*args, **kwargs)
            if self.time_start:
                self._pgreact_tell("lost", WorkerLostError("its worker is stopping, or lost its broker"))

        def _pgreact_tell(self, outcome: str, error: BaseException) -> None:
            text, request = described(error, frames=0), Context(self.request_dict)
            _tell(self.app, request, outcome, text, self.hostname, self.worker_pid)

    return _requests.setdefault(base, Request)


def _on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: object) -> None:
    if terminated:
        return  # its request tells, which knows the child
    if expired:
        _tell(sender.app, request, "expired", "its message expired")
    else:
        _tell(sender.app, request, "revoked", "its task was revoked")


def _on_unknown(sender: Any, message: Any, name: str, id: str, **_: object) -> None:  # noqa: A002
    request = Context({"id": id, **(message.headers or {})})
    error = f'no task "{name}" in worker {sender.hostname}: import the module that defines it there'
    _tell(sender.app, request, "invalid", error)


def _on_rejected(sender: Any, message: Any, exc: object, **_: object) -> None:
    on_unreadable(sender, message, exc)


def on_unreadable(consumer: Any, message: Any, error: object) -> None:
    """End the attempt of a message that this worker cannot read."""
    request = Context(message.headers or {})
    # Celery's own names may have been overwritten
    if unfit({"retries": request.retries}):
        request.retries = 0
    _tell(consumer.app, request, "invalid", f"its message cannot be read: {error}")


def _on_failure(sender: Any, exception: BaseException, **_: object) -> None:
    request = getattr(sender, "request", None)
    if request is None or getattr(request, ENTERED, False):
        return
    # It failed before its body, for example in before_start. A child that died is told of by its request.
    if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        _tell(sender.app, request, "failed", described(exception))


signals.task_revoked.connect(_on_revoked)
signals.task_unknown.connect(_on_unknown)
signals.task_rejected.connect(_on_rejected)
signals.task_failure.connect(_on_failure)
# A child of a prefork pool ends without Python's own way out.
signals.worker_process_shutdown.connect(close_all)


def _tell(
    app: Any, request: Any, outcome: str, error: str, hostname: str | None = None, pid: int | None = None
) -> None:
    """Tell in the background that a job's message will not run, or that its run was cut short.

    Args:
        app: The worker's application; of others we know nothing.
        request: The message's headers, as attributes.
        outcome: As ``pgreact.settle`` has it.
        error: Why.
        hostname: The worker's name, if it ran.
        pid: The process that ran it.
    """
    door = doors.get(app)
    if door is None:
        return
    try:
        if job := number(request, JOB):
            run = run_of(request, job)
            run.worker = worker_name(hostname, pid)
            door.jobs.tell(given_up(run, outcome, error, pid))
    except Exception as trouble:  # noqa: BLE001 - it must not end the worker
        _log.warning("job.unheard: task %s: %s: cannot be told: %s", request.id, outcome, said(trouble))
