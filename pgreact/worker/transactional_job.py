"""The job that a call of a task becomes: what Celery's options are in it."""

import datetime
import numbers
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.utils import uuid
from celery.utils.time import maybe_iso8601, maybe_make_aware

from pgreact.broker.task_routing import MADE, TASK_OPTIONS, overrides_apply_async, routed
from pgreact.queue.job import Job, JobParameters
from pgreact.queue.payload import payload

# Parameters of ``send_task`` that are no options of the message; those of sending are the daemon's affair.
_NOT_OPTIONS = {
    "args", "kwargs", "task_id", "task_type", "result_cls", "add_to_parent", "countdown", "eta", "expires",
    "producer", "publisher", "connection", "retries", "retry", "retry_policy",
}  # fmt: skip
_REMEDY = "to send it as a message now, outside the transaction: apply_async(…, transactional=False)"


class TaskCall:
    """A call of a task, as ``send_task`` gets it."""

    def __init__(self, app: Celery, name: str, task: Any, options: Mapping[str, Any]) -> None:
        """Take the call; nothing is checked yet.

        Args:
            app: The application.
            name: The task's name.
            task: The task, if this process has it.
            options: The parameters of ``send_task``, by name.
        """
        self.options = options
        self._app, self._name, self._task = app, name, task
        self._task_id: str = options.get("task_id") or uuid()

    def payload(self) -> str:
        """Return the job for PostgreSQL.

        Raises:
            TypeError: An argument is not JSON, or an option cannot be kept.
            ValueError: An option has an impossible value.
        """
        try:
            self._check()
            parameters: JobParameters = {
                "task_id": self._task_id,
                "run_at": self._run_at(),
                "expires": self._expires(),
                "options": self._message_options(),
            }
            args, kwargs = self.options.get("args") or (), self.options.get("kwargs") or {}
            return payload(Job(self._name, args, kwargs, **parameters))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self._name} cannot become a job: {error}; {_REMEDY}") from error

    def result(self) -> Any:
        """Return Celery's result object of the call."""
        found = (self.options.get("result_cls") or self._app.AsyncResult)(self._task_id)
        found.ignored = self.options.get("ignore_result")
        return found

    def _check(self) -> None:
        serializer = self.options.get("serializer") or self._app.conf.task_serializer
        if serializer != "json":
            raise TypeError(f'its serializer is "{serializer}", and a job\'s arguments are JSON')
        if self.options.get("router") is not None:
            raise TypeError("a router of one call cannot be kept: set task_routes, or give queue")

    def _run_at(self) -> datetime.datetime | float | None:
        countdown, eta = self.options.get("countdown"), self.options.get("eta")
        if countdown:
            return float(countdown)
        return self._moment("eta", eta) if eta else None

    def _expires(self) -> datetime.datetime | float | None:
        expires = self.options.get("expires")
        if isinstance(expires, numbers.Real):
            # by the class: PostgreSQL knows it, too
            return None if expires == getattr(self._task, "expires", None) else float(expires)
        return None if expires is None else self._moment("expires", expires)

    def _moment(self, name: str, value: Any) -> datetime.datetime:
        """Return a time; without a time zone it is in the application's, as for Celery."""
        try:
            found = maybe_iso8601(value)
        except (TypeError, ValueError):
            found = None
        if not isinstance(found, datetime.datetime):
            raise TypeError(f"{name} is {value!r}, not a time")
        return maybe_make_aware(found, self._app.timezone)

    def _message_options(self) -> dict[str, Any]:
        """Return the options that the message will have beside those of the task's class."""
        options = {
            name: getattr(value, "name", value) if name in {"queue", "exchange"} else value
            for name, value in self.options.items()
            if value is not None and name not in _NOT_OPTIONS
        }
        for name in TASK_OPTIONS:
            if name in options and options[name] == getattr(self._task, name, None):
                del options[name]
        if "route_name" in options and "queue" not in options:
            options["queue"] = routed(self._app, options["route_name"])["queue"]
        if self._task is not None and overrides_apply_async(self._task):
            options[MADE] = True
        if (parent := self._app.current_worker_task) is not None:
            request = parent.request
            options.setdefault("root_id", request.root_id or request.id)
            options.setdefault("parent_id", request.id)
            priority = (request.delivery_info or {}).get("priority")
            if self._app.conf.task_inherit_parent_priority and priority is not None:
                options.setdefault("priority", priority)
        return options
