"""Messages of jobs that are alike: made from one that Celery made, in a third of the time.

Jobs of one task with the same options have messages that differ in the job's own values alone. Celery makes
the first two of a kind. If the second is what the first gives with the second job's values, so is each
further one. An application with its own ``send_task``, with routers that are functions, or with its own kind
of message has no kinds: it may do something at each call.

kombu makes its own message of each of these, which takes as long again. So the same is done once more: kombu
makes the first one of a kind on each connection, and on one connection the second, too, which is the proof.
"""

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.serialization import dumps

from pgreact import tracing
from pgreact.broker.composed_message import ComposedMessage
from pgreact.broker.message_headers import of_kind
from pgreact.broker.prepared_message import PreparedMessage, observed

MOST = 1000  # kinds that are kept
LONGEST = 1000  # characters of the options of a kind


class MessageKinds:
    """The kinds of an application's messages that were made so far."""

    def __init__(self, app: Celery) -> None:
        """Begin without a kind."""
        self._app = app
        self._plain: bool | None = None  # whether Celery alone makes the messages; None: not looked up
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def derive(self, kind: tuple[str, str], values: "Values") -> "DerivedMessage | None":
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
        return DerivedMessage(known, values)

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

    @property
    def call(self) -> tuple[Any, Any]:
        """The arguments as Celery's body has them."""
        return self.args or (), self.kwargs or {}


class DerivedMessage:
    """A message of a kind, which is made when it is sent."""

    def __init__(self, kind: "_Kind", values: Values) -> None:
        """Remember what it is made of.

        Args:
            kind: Its kind, which is proved.
            values: The job's own.
        """
        self._kind = kind
        self._values = values

    @functools.cached_property
    def prepared(self) -> PreparedMessage:
        """The message as Celery would make it."""
        return self._kind.derive(self._values)

    def traced(
        self, carrier: tracing.Carrier, attributes: tracing.Attributes, ready: float | None = None
    ) -> AbstractContextManager[tracing.Carrier]:
        """Record the publish of this message; see :meth:`PreparedMessage.traced`."""
        return self.prepared.traced(carrier, attributes, ready)

    def send(self, producer: Producer, headers: Mapping[str, str] | None = None) -> None:
        """Send the message, with Celery's signals; see :meth:`PreparedMessage.send`."""
        self.prepared.send(producer, headers)

    def send_composed(self, producer: Producer) -> bool:
        """Send the message as kombu would make it.

        Args:
            producer: To send with.

        Returns:
            Whether it was sent. If not, :meth:`send` can.

        Raises:
            Exception: Whatever kombu raises.
        """
        if observed():
            return False
        if (composed := self._kind.compose(self._values, producer.channel)) is not None:
            composed.publish()
            return True
        if self._kind.composable is not False:
            self._kind.learn(self._values, self.prepared.compose(producer))
        return self.prepared.send_composed(producer)


SendableMessage = PreparedMessage | DerivedMessage


class _Kind:
    def __init__(self, app: Celery, made: PreparedMessage) -> None:
        self.proved: bool | None = None  # None: only one message was made
        self.composable: bool | None = None  # likewise, of kombu's messages
        nothing = {"argsrepr": "", "kwargsrepr": "", "retries": 0}
        self._made = made.for_job(made.task_id, (), {}, nothing, {})  # the arguments may be large
        self._sizes = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        self._levels = app.conf.task_repr_maxlevels
        self._composed: ComposedMessage | None = None  # the last one that kombu made, without the job's own

    def derive(self, values: Values) -> PreparedMessage:
        """Return a message as Celery makes it."""
        return self._made.for_job(values.task_id, *values.call, self._told(values), values.headers)

    def compose(self, values: Values, channel: Any) -> ComposedMessage | None:
        """Return a message as kombu makes it for a channel; ``None``: kombu has to make it."""
        if not self.composable or self._composed is None or self._composed.channel is not channel:
            return None
        return self._compose(self._composed, values)

    def learn(self, values: Values, made: ComposedMessage | None) -> None:
        """Take note of a message that kombu made, before it is sent; ``None``: it makes no such messages."""
        last = self._composed
        if made is None:
            self.composable = False
        elif self.composable is None and last is not None and last.channel is made.channel:
            self.composable = self._compose(last, values) == made
        if made is not None and self.composable is not False:
            self._composed = made.replace("", of_kind(made.headers), {})

    def _compose(self, last: ComposedMessage, values: Values) -> ComposedMessage:
        parts = (*values.call, self._made.embedded)
        _content_type, _encoding, body = dumps(parts, serializer=self._made.serializer)
        ids = {"id": values.task_id, "root_id": values.task_id}
        headers = {**last.headers, **self._told(values), **ids, **values.headers}
        return last.replace(body, headers, {"correlation_id": values.task_id})

    def _told(self, values: Values) -> dict[str, Any]:
        """Return what the headers tell of a call."""
        args, kwargs = values.args, values.kwargs
        return {
            # the function takes 20 us for nothing, when it is called now and then
            "argsrepr": self._shown(args, self._sizes[0]) if args else "()",
            "kwargsrepr": self._shown(kwargs, self._sizes[1]) if kwargs else "{}",
            "retries": values.retries,
        }

    def _shown(self, value: Any, size: int) -> str:
        return saferepr(value, size, maxlevels=self._levels)


def _made_by_celery_alone(app: Celery) -> bool:
    router: Any = app.amqp.router
    return (
        type(app).send_task is Celery.send_task
        and "send_task" not in vars(app)
        and type(app.amqp) is AMQP
        and all(type(route) is MapRoute for route in router.routes)
    )
