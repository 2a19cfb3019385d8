"""A message that Celery has made and that is sent later: Celery's ``send_task``, halted in the middle."""

import contextlib
import copy
import datetime
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Self

from celery import Celery, signals
from celery.app.task import Context
from kombu import Producer

from pgreact import tracing
from pgreact.broker.composed_message import ComposedMessage, compose
from pgreact.broker.connection import BrokerConnection
from pgreact.broker.message_headers import BEFORE, JOB, JOBS, OURS, as_job, of_kind, unfit
from pgreact.broker.sending import directly
from pgreact.broker.task_routing import MADE, overrides_apply_async

# Names under which a worker keeps Celery's own data of a message: a header of that name would replace it.
# Under "headers" the first protocol, and tracing libraries, keep the other headers.
_CELERYS = frozenset({*dir(Context), "task", "lang", "argsrepr", "kwargsrepr", "compression"} - {"headers"})

# Of Celery, around the sending of a message.
_SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


class Unfit(Exception):
    """A message that must not be sent; the text is the reason."""


def check_message(own: Mapping[str, object], added: Mapping[str, object], *, before: bool = False) -> None:
    """Make sure that a worker can read a message: a header of the wrong kind may end the whole process.

    Args:
        own: Celery's data of the call: its headers, or the body of its first protocol.
        added: The headers that were added to them.
        before: The header ``pgreact_before`` was added by pgreact.

    Raises:
        Unfit: No worker can.
    """
    for name in added:
        if name in _CELERYS or (name == BEFORE and not before):
            whose = "pgreact" if name == BEFORE else "Celery"
            raise Unfit(f'the header "{name}" is {whose}\'s own: choose another name')
    if reason := unfit({**own, **added}):
        raise Unfit(reason)


class _NoResult:
    """Takes the place of Celery's result object, which would open the result backend."""

    def __init__(self, task_id: str) -> None:
        self.id = task_id


class PreparedMessage:
    """The message of one call of a task, made by Celery with its routing, headers and body.

    Making a message takes as long as sending it, so it is made ahead of its signal. ``send_task`` takes this
    object for its producer, which keeps the message.

    A task whose class overrides ``apply_async`` is called by that, as by ``delay()``, so that the message has
    the headers that it adds. It must pass on the given task id. Other messages that it sends are sent.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        task: str,
        task_id: str,
        options: Mapping[str, Any],
        before: int = 0,
    ) -> None:
        """Make the message.

        Args:
            connection: The broker's.
            task: The task's name.
            task_id: The call's id.
            options: Of ``send_task``; ``args`` and ``kwargs``, too. This process ignores the result; the
                worker does, too, with ``ignore_result``.
            before: Messages of a job's attempt before the first one of this task.

        Raises:
            Unfit: No worker could read it, or the task's own ``apply_async`` made no such message.
            Exception: Whatever Celery raises about arguments or options, or ``apply_async``.
        """
        _intercept_send(connection.app)
        assert connection.producer
        self.connection = connection.connection  # ``send_task`` asks its producer for it
        self.task_id = task_id
        self.task = task
        self._taken = False
        self._composed: ComposedMessage | None = None
        self._zone = connection.app.timezone
        self._lasts: Any = options.get("expires")
        # pgreact's headers
        self.ours = {name: value for name, value in (options.get("headers") or {}).items() if name in OURS}
        self._before = before > 0
        if before:
            self.ours[BEFORE] = before
        call = {
            "task_id": task_id,
            "producer": self,
            "retry": False,
            "add_to_parent": False,
            "confirm_timeout": connection.deadline,
            "serializer": connection.app.conf.task_serializer,
            **options,
            "ignore_result": True,  # else the result backend would begin to wait for the result
        }
        made = call.pop(MADE, False)
        own = None if made else _own_apply_async(connection.app, task)
        self._made_by_task = own is not None
        with directly():
            if own is not None:
                self._made_by(own, call)
            else:
                connection.app.send_task(task, result_cls=_NoResult, **call)  # type: ignore[arg-type]
        headers = self._message.headers
        if isinstance(headers, dict) and "ignore_result" in headers:
            headers["ignore_result"] = bool(options.get("ignore_result"))
        check_message(self._data, self._options.get("headers") or {}, before=self._before)
        if JOB in self.ours or JOBS in self.ours:
            as_job(self._message, self._options, task)

    @property
    def derivable(self) -> bool:
        """Whether others may be made from it: of Celery's second protocol, and not made by its task."""
        return "id" in (self._message.headers or {}) and not self._made_by_task

    def _copied(self) -> Self:
        """Return a copy that shares nothing with it that its sending changes."""
        other = copy.copy(self)
        message = self._message
        args, kwargs, embedded = message.body
        other._message = message._replace(
            headers={
                name: dict(value) if isinstance(value, dict) else value
                for name, value in message.headers.items()
            },
            properties=dict(message.properties),
            body=(args, kwargs, dict(embedded)),
            sent_event=None if message.sent_event is None else dict(message.sent_event),
        )
        other._options = {**self._options, "headers": dict(self._options.get("headers") or {})}
        return other

    def for_job(
        self, task_id: str, args: Any, kwargs: Any, told: Mapping[str, Any], ours: Mapping[str, Any]
    ) -> Self:
        """Return the message of another job of its kind.

        Args:
            task_id: Celery's id.
            args: Positional arguments.
            kwargs: Keyword arguments.
            told: ``argsrepr``, ``kwargsrepr`` and ``retries``.
            ours: pgreact's headers.
        """
        other = self._copied()
        other.task_id, message = task_id, other._message
        message.headers.update(told, id=task_id, root_id=task_id)
        message.properties["correlation_id"] = task_id
        other._message = message._replace(body=(args, kwargs, message.body[2]))
        if (event := message.sent_event) is not None:
            event.update(uuid=task_id, root_id=task_id, retries=told["retries"])
            event.update(args=told["argsrepr"], kwargs=told["kwargsrepr"])
        other._options["headers"] = {**of_kind(other._options["headers"]), **ours}
        return other

    def is_like(self, other: "PreparedMessage") -> bool:
        """Return whether another message is the same."""
        return (self._message, self._options, self._name, self._lasts, self.task, self.task_id) == (
            (other._message, other._options, other._name, other._lasts, other.task, other.task_id)
        )

    def _made_by(self, own: Callable[..., object], call: dict[str, Any]) -> None:
        token = _making.set(self)
        try:
            own(call.pop("args", None), call.pop("kwargs", None), **call)
        except Exception as error:
            if isinstance(error, Unfit) or not self._taken:
                raise
            # raised after the message was made, for example by what it does with the result
        finally:
            _making.reset(token)
        if not self._taken:
            raise Unfit(f"apply_async of {self.task} made no message")
        if self._expires and not self._expires_in(self._lasts):
            self._lasts = None

    def _expires_in(self, seconds: float) -> bool:
        """Return whether the message expires by the options; its ``apply_async`` may have changed that."""
        with contextlib.suppress(TypeError, ValueError):
            moment = datetime.datetime.fromisoformat(self._data.get("expires"))
            now = datetime.datetime.now(moment.tzinfo and self._zone)
            return abs((moment - now).total_seconds() - seconds) < 1
        return False

    @property
    def _expires(self) -> bool:
        """Whether it expires some seconds after it is sent."""
        return isinstance(self._lasts, int | float)

    @property
    def _moment(self) -> str:
        """When it expires if it is sent now."""
        lasts = datetime.timedelta(seconds=self._lasts)
        return (datetime.datetime.now(self._zone) + lasts).isoformat()

    @property
    def _data(self) -> Any:
        """Celery's data of the call: the headers, or the body of its first protocol."""
        return self._message.headers if "id" in (self._message.headers or {}) else self._message.body

    def take(self, sender: Callable[..., object], name: str, message: Any, options: dict[str, Any]) -> bool:
        """Keep the message that Celery is about to send; return whether it is this call's.

        Args:
            sender: Celery's function that sends it.
            name: The task's name.
            message: The message.
            options: Of the sender.

        Raises:
            Unfit: It is this call's, without its task id or for the second time.
        """
        task_id = (message.headers or {}).get("id") or message.body["id"]
        if task_id != self.task_id and name != self.task:
            return False
        if task_id != self.task_id:
            raise Unfit(f"apply_async of {self.task} does not pass on task_id")
        if self._taken:
            raise Unfit(f"apply_async of {self.task} makes two messages of one task_id")
        if self.ours:
            options["headers"] = {**(options.get("headers") or {}), **self.ours}
        self._taken = True
        self._sender, self._name, self._message, self._options = sender, name, message, options
        return True

    def traced(
        self,
        carrier: tracing.Carrier,
        attributes: tracing.Attributes,
        ready: float | None = None,
        links: Iterable[tracing.Carrier] = (),
    ) -> AbstractContextManager[tracing.Carrier]:
        """Record the publish of this message; see :func:`pgreact.tracing.publishing`.

        Args:
            carrier: The context of its cause; if empty, that in the message's own headers, if any.
            attributes: Of the span, beside those of the message.
            ready: When the message could have been sent, in seconds since 1970.
            links: Contexts of further causes.
        """
        queue = self._options.get("queue")
        found = {
            "messaging.system": "celery",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": str(
                getattr(queue, "name", queue) or self._options.get("routing_key") or ""
            ),
            "messaging.message.id": self.task_id,
            "celery.task_name": self.task,
            **attributes,
        }
        carrier = carrier or tracing.stored(self._options.get("headers") or {})
        return tracing.publishing("pgreact.publish", carrier, found, ready, links)

    def send(self, producer: Producer, headers: Mapping[str, str] | None = None) -> None:
        """Send the message, with Celery's signals. Seconds until it expires count from now.

        Args:
            producer: To send with.
            headers: In addition to those it has.
        """
        if self._expires:
            moment = self._moment
            # in the headers, or in the body of the old task protocol, and in the event "task-sent"
            for part in (self._message.headers, self._message.body, self._message.sent_event):
                if isinstance(part, dict) and part.get("expires"):
                    part["expires"] = moment
        options = self._options
        if headers:
            options = {**options, "headers": {**(options.get("headers") or {}), **headers}}
        self._sender(producer, self._name, self._message, **options)

    def compose(self, producer: Producer) -> ComposedMessage | None:
        """Let kombu make its message ahead, too; ``None``: it cannot, or other code takes part then.

        Args:
            producer: Of the connection that the message will be sent by. It declares the queue now.

        Raises:
            Exception: Whatever Celery and kombu raise.
        """
        if observed() or self._message.sent_event is not None:
            return None
        composed = compose(producer, lambda: self.send(producer))
        if composed is not None and (not self._expires or composed.headers.get("expires")):
            self._composed = composed
        return self._composed

    def send_composed(self, producer: Producer) -> bool:
        """Send the message as kombu made it ahead.

        Returns:
            Whether it was sent. If not, :meth:`send` can.

        Raises:
            Exception: Whatever kombu raises.
        """
        composed, self._composed = self._composed, None
        if composed is None or composed.channel is not producer.channel or observed():
            return False
        if self._expires:
            composed.publish(expires=self._moment)
        else:
            composed.publish()
        return True

    @property
    def serializer(self) -> Any:
        """The name of the serializer of its body."""
        return self._options.get("serializer")

    @property
    def embedded(self) -> Any:
        """Celery's further values in its body."""
        return self._message.body[2]


def observed() -> bool:
    """Return whether other code takes part when a message is sent: a user's, or a tracer."""
    return any(signal.receivers for signal in _SIGNALS) or tracing.active()


# The message that a task's own apply_async is making in this thread: it may not pass on the producer.
_making: ContextVar[PreparedMessage | None] = ContextVar("making", default=None)


def _own_apply_async(app: Celery, name: str) -> Callable[..., object] | None:
    """Return a task's ``apply_async`` if its class overrides it."""
    task = app.tasks.get(name)
    # Celery would run the task here, in the daemon
    if task is None or app.conf.task_always_eager or not overrides_apply_async(task):
        return None
    return task.apply_async


def _intercept_send(app: Celery) -> None:
    """Let Celery hand over a message that it has made and is about to send.

    ``send_task_message`` is the only place where ``send_task`` can be halted between the two.
    """
    sender = app.amqp.send_task_message
    if getattr(sender, "prepares_messages", False):
        return

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> object:
        prepared = producer if isinstance(producer, PreparedMessage) else _making.get()
        if prepared is None:
            return sender(producer, name, message, **options)
        if prepared.take(sender, name, message, options):
            return None
        if producer is prepared:
            raise Unfit(
                f"apply_async of {prepared.task} sends {name}, too, by the producer of its own message"
            )
        return sender(producer, name, message, **options)

    send_task_message.prepares_messages = True  # type: ignore[attr-defined]
    app.amqp.send_task_message = send_task_message  # type: ignore[misc]
