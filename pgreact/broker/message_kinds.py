"""Messages of jobs that are alike: made from one that Celery made, in a third of the time.

Jobs of one task with the same options have messages that differ in the job's own values alone. Celery makes
the first two of a kind. If the second is what the first gives with the second job's values, so is each
further one. An application with its own ``send_task``, with routers that are functions, or with its own kind
of message has no kinds: it may do something at each call.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr

from pgreact.broker.prepared_message import PreparedMessage

MOST = 1000  # kinds that are kept
LONGEST = 1000  # characters of the options of a kind


class MessageKinds:
    """The kinds of an application's messages that were made so far."""

    def __init__(self, app: Celery) -> None:
        """Begin without a kind."""
        self._app = app
        self._plain: bool | None = None  # whether Celery alone makes the messages; None: not looked up
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def derive(self, kind: tuple[str, str], values: "Values") -> PreparedMessage | None:
        """Return a message of a kind; ``None``: Celery has to make it.

        Args:
            kind: The task, and the text of the options.
            values: The job's own.
        """
        known = self._kinds.get(kind)
        if known is None or not known.proved:
            return None
        if type(values.args) is not list or type(values.kwargs) is not dict:
            return None  # Celery says what is wrong
        return known.derive(values)

    def learn(self, kind: tuple[str, str], values: "Values", made: PreparedMessage) -> None:
        """Take note of a message that Celery made.

        Args:
            kind: As in :meth:`derive`.
            values: The job's own.
            made: The message, before it is sent.
        """
        if self._plain is None:
            self._plain = _made_by_celery_alone(self._app)
        if not self._plain or not made.derivable or len(kind[1]) > LONGEST:
            return
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= MOST:
                self._kinds.clear()
            self._kinds[kind] = _Kind(self._app, made)
        elif known.proved is None:
            # its headers tell the time
            known.proved = made.is_like(known.derive(dataclasses.replace(values, headers=made.ours)))


@dataclasses.dataclass(frozen=True, slots=True)
class Values:
    """The values that the message of a job does not share with its kind.

    Attributes:
        task_id: Celery's id.
        args: Positional arguments.
        kwargs: Keyword arguments.
        retries: Celery's count.
        headers: pgreact's.
    """

    task_id: str
    args: Any
    kwargs: Any
    retries: int
    headers: Mapping[str, Any]


class _Kind:
    def __init__(self, app: Celery, made: PreparedMessage) -> None:
        self.proved: bool | None = None  # None: only one message was made
        nothing = {"argsrepr": "", "kwargsrepr": "", "retries": 0}
        self._made = made.for_job(made.task_id, (), {}, nothing, {})  # the arguments may be large
        self._sizes = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        self._levels = app.conf.task_repr_maxlevels

    def derive(self, values: Values) -> PreparedMessage:
        args, kwargs = values.args or (), values.kwargs or {}
        args_text, kwargs_text = (
            saferepr(value, size, maxlevels=self._levels)
            for value, size in zip((args, kwargs), self._sizes, strict=True)
        )
        told = {"argsrepr": args_text, "kwargsrepr": kwargs_text, "retries": values.retries}
        return self._made.for_job(values.task_id, args, kwargs, told, values.headers)


def _made_by_celery_alone(app: Celery) -> bool:
    router: Any = app.amqp.router
    return (
        type(app).send_task is Celery.send_task
        and "send_task" not in vars(app)
        and type(app.amqp) is AMQP
        and all(type(route) is MapRoute for route in router.routes)
    )
