"""The door to Celery for jobs: many messages at a time, on a line of their own."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from pgreact.broker.connection import BrokerConnection, PublisherThread, PublishFailed, summary
from pgreact.broker.json_reader import read
from pgreact.broker.message_headers import AGAIN, ATTEMPT, CLAIM, DATABASE, JOB
from pgreact.broker.prepared_message import PreparedMessage
from pgreact.broker.task_routing import routed
from pgreact.postgres.errors import storable

# What a task's own class says about its messages, and send_task does not look at.
_TASK_OPTIONS = (
    "queue", "exchange", "routing_key", "priority", "expires", "serializer", "delivery_mode", "compression",
    "time_limit", "soft_time_limit", "ignore_result",
)  # fmt: skip


# What is sent together: the first message is not to wait long until the last is made, up to 0.5 s for 1 MiB.
GROUP = 20  # messages
GROUP_SIZE = 262_144  # characters of their arguments


@dataclasses.dataclass(frozen=True)
class JobMessage:
    """One attempt of a job, or a message that belongs to none, as Celery is to have it.

    Arguments and options are JSON text until the message is made: what cannot be read concerns this one
    alone, and what is read takes many times the space.
    """

    job: int | None
    attempt: int
    task_id: str
    task: str
    args: str
    kwargs: str
    options: str
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # besides those of the options
    expires: float | None = None  # seconds, instead of what the options say
    claim: str = ""  # of a job: which attempt this is
    database: str = ""  # and where it comes from
    again: bool = False  # another attempt follows if this one fails
    retries: int = 0  # of Celery's own
    before: int = 0  # messages of the attempt before the first one of this task


@dataclasses.dataclass
class Posted:
    """What became of some messages."""

    sent: list[JobMessage] = dataclasses.field(default_factory=list)
    refused: list[tuple[JobMessage, str]] = dataclasses.field(default_factory=list)  # and why; for good
    failure: str | None = None  # why the rest was not sent: the broker is away, or time was up
    late: bool = False  # time was up, and the broker took all that it was given


class JobPublisher:
    """Publishes jobs through a Celery application."""

    def __init__(self, app: Celery, deadline: float) -> None:
        """Nothing is connected yet.

        Args:
            app: The application; its routing, serializer and tasks' own options hold.
            deadline: Seconds for a batch.
        """
        self._app = app
        self._thread = PublisherThread(app, deadline)
        self._imported = False

    async def post(self, messages: Sequence[JobMessage]) -> Posted:
        """Publish messages until one fails because the broker is away, or time is up.

        Raises:
            PublishFailed: No answer in time: some may have been sent.
        """
        return await self._thread.call(lambda connection: self._post(connection, messages))

    async def routes(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return what ``pgreact.route_tasks`` is to know of these tasks.

        Raises:
            PublishFailed: No answer in time.
        """

        def work(_connection: BrokerConnection) -> list[dict[str, Any]]:
            self._import_tasks()
            return [routed(self._app, task) for task in tasks]

        return await self._thread.call(work)

    async def close(self) -> None:
        """Hang up."""
        self._thread.close()

    def _post(self, connection: BrokerConnection, messages: Sequence[JobMessage]) -> Posted:
        self._import_tasks()
        posted = Posted()
        doubtful: list[tuple[int, JobMessage, str]] = []
        until = time.monotonic() + connection.deadline / 2
        for group in _groups(messages):
            if time.monotonic() > until and (posted.sent or posted.refused):
                posted.failure, posted.late = "no time was left", True
                break
            try:
                self._post_group(connection, group, until, posted, doubtful)
            except Exception as error:  # noqa: BLE001 - kombu has no common base for what a broker does
                connection.close()
                posted.failure = summary(error)
            if posted.failure:
                break
        for sent_before, message, refusal in doubtful:
            if len(posted.sent) > sent_before:
                posted.refused.append((message, refusal))
            else:
                posted.failure = posted.failure or refusal
        return posted

    def _post_group(
        self,
        connection: BrokerConnection,
        group: Sequence[JobMessage],
        until: float,
        posted: Posted,
        doubtful: list[tuple[int, JobMessage, str]],
    ) -> None:
        """Send a group.

        Args:
            connection: To the broker.
            group: The messages.
            until: When time is up.
            posted: What became of them.
            doubtful: What the broker refused, and how many were sent before: unless it takes another one
                afterwards, it may take none at all (a full disk or memory, a replica that may not write).
        """
        assert connection.producer  # raises when the broker is away, of which no one is to blame
        prepared: list[tuple[JobMessage, PreparedMessage]] = []
        for message in group:
            try:
                options = self._options(message)
                one = PreparedMessage(connection, message.task, message.task_id, options, message.before)
                prepared.append((message, one))
            except Exception as error:  # noqa: BLE001 - arguments and options are whatever a user wrote
                posted.refused.append((message, _reason(error)))
        if time.monotonic() < until and _send_together(connection, [one for _, one in prepared]):
            posted.sent += [message for message, _ in prepared]
            return
        for message, one in prepared:
            if time.monotonic() > until:
                posted.failure, posted.late = "the broker is slow", bool(posted.sent)
                return
            refusal = _send(connection, one)
            if refusal is None:
                posted.sent.append(message)
            elif getattr(refusal, "code", None) in _OF_ONE:
                posted.refused.append((message, _reason(refusal)))
            else:
                doubtful.append((len(posted.sent), message, _reason(refusal)))

    def _options(self, message: JobMessage) -> dict[str, Any]:
        task = self._app.tasks.get(message.task)
        own = {name: getattr(task, name, None) for name in _TASK_OPTIONS} if task is not None else {}
        options = {name: value for name, value in own.items() if value is not None}
        options |= _read("options", message.options)
        if message.expires is not None:
            options["expires"] = message.expires
        headers = {**(options.get("headers") or {}), **message.headers}
        if message.job is not None:
            headers |= {
                JOB: message.job,
                CLAIM: message.claim,
                DATABASE: message.database,
                ATTEMPT: message.attempt,
            }
            if message.again:
                headers[AGAIN] = True
            options["retries"] = message.retries
            # the clock of PostgreSQL decides, at the claim and at the start, and not what the class says
            options["expires"] = None
        return {
            **options,
            "args": _read("args", message.args, marked=True),
            "kwargs": _read("kwargs", message.kwargs, marked=True),
            "headers": headers,
        }

    def _import_tasks(self) -> None:
        if not self._imported:
            self._imported = True
            # for their own options; the worker will tell what is wrong with an import
            with contextlib.suppress(Exception):
                self._app.loader.import_default_modules()


def _groups(messages: Sequence[JobMessage]) -> Iterator[Sequence[JobMessage]]:
    """Cut messages into groups of a size that is made and sent in time."""
    first = size = 0
    for place, message in enumerate(messages):
        length = len(message.args) + len(message.kwargs) + len(message.options)
        if place > first and (place - first == GROUP or size + length > GROUP_SIZE):
            yield messages[first:place]
            first, size = place, 0
        size += length
    if messages:
        yield messages[first:]


def _send_together(connection: BrokerConnection, prepared: Sequence[PreparedMessage]) -> bool:
    """Send messages by one word to the broker, where kombu can; false: who knows which of them it has."""
    producer = connection.producer
    if len(prepared) < 2 or not getattr(producer, "supports_batch_publish", False):  # kombu 5.7, for Redis
        return False
    try:
        with producer.batch():  # type: ignore[attr-defined]
            for one in prepared:
                one.send(producer)
    except Exception:  # noqa: BLE001 - each by itself will tell
        connection.close()
        return False
    connection.used = True
    return True


# AMQP's reply codes that concern one message, never all: no such exchange, a precondition failed (its size)
_OF_ONE = {404, 406}


def _send(connection: BrokerConnection, one: PreparedMessage) -> Exception | None:
    """Send one message; return why the broker, which is there, refuses it, if so."""
    producer = connection.producer
    for last in (False, True):
        try:
            one.send(producer)
        except Exception as error:  # noqa: BLE001
            fresh = not connection.used
            connection.close()
            # raises when the broker is away; who is there and refuses a message twice means it
            producer = connection.producer
            if last or (fresh and not isinstance(error, OSError | OperationalError)):
                return error
        else:
            connection.used = True
            return None
    raise AssertionError


def _reason(error: Exception) -> str:
    """Return why a message cannot be sent, in what a database of any encoding keeps."""
    return storable(summary(error)[:1000])


def _read(name: str, text: str, *, marked: bool = False) -> Any:
    """Read what a job is called with.

    Raises:
        ValueError: Nobody could read it.
    """
    if text in {"[]", "{}"}:  # most options, and half of all arguments
        return [] if text == "[]" else {}
    try:
        return read(text, marked=marked)
    except Exception as error:
        raise ValueError(f"{name} cannot be read: {summary(error)}") from error


__all__ = ["JobMessage", "JobPublisher", "Posted", "PublishFailed"]
