"""A broker in memory: keeps what the daemon and tasks send, and runs it as a worker does.

Celery makes the messages, encodes and decodes them, and runs the tasks; only the way between is ours.
"""

import contextlib
import dataclasses
import datetime
import socket
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery, Task, signals
from celery.utils.imports import symbol_by_name
from celery.utils.time import maybe_iso8601, maybe_make_aware
from celery.worker import strategy
from kombu import Connection
from kombu.message import Message
from kombu.serialization import dumps, prepare_accept_content
from kombu.utils.json import dumps as to_json
from kombu.utils.json import loads as from_json

from pgreact.broker.connection import BrokerConnection
from pgreact.broker.job_publisher import JobMessage, message_options
from pgreact.broker.message_headers import JOB, JOB_TASK, TASK
from pgreact.broker.prepared_message import PreparedMessage
from pgreact.worker.request import abandoning_request

_PROPERTIES = ("correlation_id", "reply_to", "priority")


@dataclasses.dataclass(eq=False)
class Delivery:
    """A message that waits.

    Attributes:
        message: As a worker receives it.
        task: The name of the task that it calls.
        id: Celery's id.
        job: The job's id; ``None``: it was sent by a task.
        due: By the database's clock.
    """

    message: Message
    task: str
    id: str
    job: int | None
    due: datetime.datetime


class MemoryBroker:
    """The messages of a drain.

    Attributes:
        app: Their application.
        hostname: The worker's name in requests.
        waiting: What was sent, in order.
    """

    def __init__(self, app: Celery, now: Callable[[], datetime.datetime]) -> None:
        """Keep nothing yet.

        Args:
            app: The application.
            now: Returns the time by the database's clock.
        """
        self.app = app
        self.hostname = f"pgreact.testing@{socket.gethostname()}"
        self.waiting: list[Delivery] = []
        self._now = now
        self._connection = _MemoryConnection(app, self)
        self._accept = prepare_accept_content(app.conf.accept_content)

    # ---- sending -----------------------------------------------------------------------------------------

    def send(self, message: JobMessage) -> None:
        """Send the message of a job, or of direct delivery, as the daemon does.

        Raises:
            Exception: No worker could read it.
        """
        options = message_options(self.app, message)
        PreparedMessage(self._connection, message.task, message.task_id, options, message.before).send(
            self._connection.producer
        )

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Keep what the application sends in a block, instead of the application's broker."""
        sender = self.app.amqp.send_task_message

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            # a prepared message is taken by its own sender
            to = producer if isinstance(producer, PreparedMessage) else self._connection.producer
            return sender(to, name, message, **options)

        self.app.amqp.send_task_message = send_task_message  # type: ignore[misc]
        try:
            yield
        finally:
            self.app.amqp.send_task_message = sender  # type: ignore[misc]

    def publish(self, body: Any, serializer: str | None, headers: Any, **options: Any) -> None:
        """Keep a message of a task; drop events."""
        call = headers if "task" in (headers or {}) else body
        if not (isinstance(call, dict) and "task" in call and "id" in call):
            return
        content_type, encoding, payload = dumps(body, serializer=serializer)
        message = Message(
            body=payload,
            content_type=content_type,
            content_encoding=encoding,
            headers=from_json(to_json(headers or {})),
            properties={name: options[name] for name in _PROPERTIES if options.get(name) is not None},
            delivery_info={
                "exchange": options.get("exchange") or "",
                "routing_key": options.get("routing_key") or "",
                "redelivered": False,
            },
            accept=self._accept,
        )
        given = message.headers
        name = str(given[TASK]) if call["task"] == JOB_TASK else str(call["task"])
        job: Any = given.get(JOB)
        self.waiting.append(Delivery(message, name, str(call["id"]), job, self._due(call.get("eta"))))

    def _due(self, eta: str | None) -> datetime.datetime:
        """Return when a message is due. Celery's own clock made ``eta``, and the database's decides."""
        now = self._now()
        if not eta or (given := maybe_iso8601(eta)) is None:
            return now
        at = maybe_make_aware(given, self.app.timezone)
        return now + max(at - datetime.datetime.now(datetime.UTC), datetime.timedelta())

    # ---- receiving ---------------------------------------------------------------------------------------

    def next_due(self) -> datetime.datetime | None:
        """Return when the first message is due; ``None``: none waits."""
        return min((delivery.due for delivery in self.waiting), default=None)

    def take(self, now: datetime.datetime) -> Delivery | None:
        """Take the first message that is due."""
        for place, delivery in enumerate(self.waiting):
            if delivery.due <= now:
                return self.waiting.pop(place)
        return None

    def run(self, delivery: Delivery) -> Any:
        """Run a message in this process, as a worker does.

        Returns:
            What the task returned; of a task that did not, Celery's ``ExceptionInfo`` or ``None``.
        """
        message = delivery.message
        task: Task[Any, Any] | None = self.app.tasks.get(delivery.task)
        if task is None or delivery.task == JOB_TASK:
            error = KeyError(delivery.task)
            signals.task_unknown.send(
                sender=self, message=message, exc=error, name=delivery.task, id=delivery.id
            )
            return None
        try:
            body, headers, decoded, utc = self._read(message)
        except Exception as error:  # noqa: BLE001 - of any serializer
            signals.task_rejected.send(sender=self, message=message, exc=error)
            return None
        headers = {**headers, "task": delivery.task}
        request = abandoning_request(symbol_by_name(task.Request))(
            message, app=self.app, hostname=self.hostname, task=task, body=body, headers=headers,
            decoded=decoded, utc=utc, on_ack=_ignore, on_reject=_ignore,
        )  # fmt: skip
        task.__trace__ = None  # made of task.run as it is now
        found = request.execute()
        reject = getattr(found, "exception", None)
        if getattr(reject, "requeue", False) and task.acks_late:
            message.delivery_info["redelivered"] = True
            self.waiting.append(delivery)
        return found

    def _read(self, message: Message) -> tuple[Any, Any, bool, bool]:
        """Return body and headers, whether it is decoded, and whether its times are in UTC."""
        payload = message.payload
        if isinstance(payload, dict):
            first_protocol: Any = strategy
            found: tuple[Any, Any, bool, bool] = first_protocol.proto1_to_proto2(message, dict(payload))
            return found
        return payload, message.headers, True, self.app.conf.enable_utc


class _MemoryConnection(BrokerConnection):
    """For messages that are made as the daemon makes them."""

    def __init__(self, app: Celery, broker: MemoryBroker) -> None:
        super().__init__(app, deadline=10.0)
        self.connection = Connection("memory://")  # never opened
        self._memory = _Producer(self.connection, broker)

    @property
    def producer(self) -> Any:
        return self._memory


class _Producer:
    """The part of kombu's producer that Celery uses."""

    def __init__(self, connection: Connection, broker: MemoryBroker) -> None:
        self.connection = connection
        self._broker = broker

    def publish(self, body: Any, serializer: str | None = None, headers: Any = None, **options: Any) -> None:
        self._broker.publish(body, serializer, headers, **options)


def _ignore(*_: object) -> None:
    """Acknowledge nothing: no broker waits for it."""
