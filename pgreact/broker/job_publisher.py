"""The publisher of jobs: many messages at a time, in a thread of its own."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from pgreact import tracing
from pgreact.broker.connection import BrokerConnection, PublisherThread, PublishFailed, summary
from pgreact.broker.json_reader import read
from pgreact.broker.message_headers import AGAIN, ATTEMPT, BEFORE, CLAIM, DATABASE, JOB, JOBS, PUBLISH_S
from pgreact.broker.message_kinds import MessageKinds, SendableMessage, Values
from pgreact.broker.prepared_message import PreparedMessage
from pgreact.broker.task_routing import TASK_OPTIONS, routed
from pgreact.postgres.errors import ascii_escaped

# A group is sent together. Making the messages of 1 MiB takes up to 0.5 s, for which the first would wait.
GROUP = 20  # messages
GROUP_SIZE = 262_144  # characters of their arguments


@dataclasses.dataclass(frozen=True)
class JobMessage:
    """The message of an attempt of a job, of a bundle, or one without a job, before Celery makes it.

    Arguments and options stay JSON text until then: an error in them concerns this message alone, and the
    parsed values take many times the space.
    """

    job: int | None
    attempt: int
    task_id: str
    task: str
    args: str
    kwargs: str
    options: str
    headers: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # in addition to those of the options
    expires: float | None = None  # seconds, in place of the option
    claims: tuple[str, ...] = ()  # the attempt of the job, or those of a bundle
    jobs: int = 0  # of a bundle, whose args are the text that its worker reads; 0: not a bundle
    database: str = ""  # the job's: pgreact.database_id()
    again: bool = False  # another attempt follows if this one fails
    retries: int = 0  # Celery's own count
    before: int = 0  # messages of the attempt before the first one of this task
    lane: str = ""
    # the job's context: W3C headers, and "ready": since when it could have been claimed, as a Unix time
    trace: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    asked: float | None = None  # when the leader asked for the claim, by the monotonic clock


@dataclasses.dataclass
class PublishResult:
    """The result of publishing some messages."""

    sent: list[JobMessage] = dataclasses.field(default_factory=list)
    refused: list[tuple[JobMessage, str]] = dataclasses.field(
        default_factory=list
    )  # and the reason; for good
    failure: str | None = None  # why the others were not sent: the broker is away, or time was up
    late: bool = False  # time was up, and the broker took every message that it got


class JobPublisher:
    """Publishes jobs through a Celery application."""

    def __init__(self, app: Celery, deadline: float) -> None:
        """Remember where to connect; nothing is connected yet.

        Args:
            app: The application; its routing, its serializer and its tasks' own options apply.
            deadline: Seconds for a batch.
        """
        self._app = app
        self._thread = PublisherThread(app, deadline)
        self._imported = False
        self._kinds = MessageKinds(app)

    async def post(self, messages: Sequence[JobMessage]) -> PublishResult:
        """Publish messages until the broker is away or time is up.

        Raises:
            PublishFailed: No answer in time: some may have been sent.
        """
        return await self._thread.call(lambda connection: self._post(connection, messages))

    async def routes(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of these tasks for ``pgreact.route_tasks``.

        Raises:
            PublishFailed: No answer in time.
        """

        def work(_connection: BrokerConnection) -> list[dict[str, Any]]:
            self._import_tasks()
            return [routed(self._app, task) for task in tasks]

        return await self._thread.call(work)

    async def close(self) -> None:
        """Close the connection."""
        self._thread.close()

    def _post(self, connection: BrokerConnection, messages: Sequence[JobMessage]) -> PublishResult:
        self._import_tasks()
        posted = PublishResult()
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
        posted: PublishResult,
        doubtful: list[tuple[int, JobMessage, str]],
    ) -> None:
        """Send a group.

        Args:
            connection: To the broker.
            group: The messages.
            until: When time is up.
            posted: Gets the result.
            doubtful: Gets each message that the broker refused, with the number of those sent before it.
                Unless the broker takes a later one, it may take none at all (its disk or memory is full, or
                it is a replica).
        """
        assert connection.producer  # raises when the broker is away: no message is at fault
        prepared: list[tuple[JobMessage, SendableMessage]] = []
        for message in group:
            try:
                prepared.append((message, self._prepare(connection, message)))
            except Exception as error:  # noqa: BLE001 - arguments and options are whatever a user wrote
                posted.refused.append((message, refusal_reason(error)))
        if time.monotonic() < until and _send_together(connection, prepared):
            posted.sent += [message for message, _ in prepared]
            return
        for message, ready in prepared:
            if time.monotonic() > until:
                posted.failure, posted.late = "the broker is slow", bool(posted.sent)
                return
            refusal = _send(connection, message, ready)
            if refusal is None:
                posted.sent.append(message)
            elif getattr(refusal, "code", None) in _OF_ONE:
                posted.refused.append((message, refusal_reason(refusal)))
            else:
                doubtful.append((len(posted.sent), message, refusal_reason(refusal)))

    def _prepare(self, connection: BrokerConnection, message: JobMessage) -> SendableMessage:
        kind = (message.task, message.options)
        values = arguments = None
        if message.job is not None and not message.headers and message.expires is None:
            arguments = _arguments(message)
            values = Values(
                message.task_id,
                *arguments,
                message.retries,
                _job_headers(message) | ({BEFORE: message.before} if message.before > 0 else {}),
            )
            if (derived := self._kinds.derive(kind, values)) is not None:
                return derived
        options = message_options(self._app, message, arguments)
        made = PreparedMessage(connection, message.task, message.task_id, options, message.before)
        if values is not None:
            self._kinds.learn(kind, values, made)
        return made

    def _import_tasks(self) -> None:
        if not self._imported:
            self._imported = True
            # for their own options; the workers report an import that fails
            with contextlib.suppress(Exception):
                self._app.loader.import_default_modules()


def message_options(
    app: Celery, message: JobMessage, arguments: tuple[Any, Any] | None = None
) -> dict[str, Any]:
    """Return the options of ``send_task`` for a message, with its arguments.

    Args:
        app: The application, whose tasks have options of their own.
        message: The message.
        arguments: Positional and keyword arguments, if they have been read.

    Raises:
        ValueError: No worker could read an argument or option.
    """
    task = app.tasks.get(message.task)
    own = {name: getattr(task, name, None) for name in TASK_OPTIONS} if task is not None else {}
    options = {name: value for name, value in own.items() if value is not None}
    options |= _read("options", message.options)
    if message.expires is not None:
        options["expires"] = message.expires
    headers = {**(options.get("headers") or {}), **message.headers, **_job_headers(message)}
    if message.job is not None:
        options["retries"] = message.retries
        # PostgreSQL's clock decides, at the claim and at the start; the class does not
        options["expires"] = None
    if message.jobs:
        return {
            **options,
            "args": [message.args],
            "kwargs": {},
            "argsrepr": f"({message.jobs} jobs)",
            "headers": {**headers, JOBS: message.jobs, DATABASE: message.database},
            "expires": None,
        }
    args, kwargs = arguments or _arguments(message)
    return {**options, "args": args, "kwargs": kwargs, "headers": headers}


def _arguments(message: JobMessage) -> tuple[Any, Any]:
    return _read("args", message.args, marked=True), _read("kwargs", message.kwargs, marked=True)


def _job_headers(message: JobMessage) -> dict[str, Any]:
    """Return pgreact's headers of a message, but for the name of its task and what comes before it."""
    headers: dict[str, Any] = {}
    if message.asked is not None:
        headers[PUBLISH_S] = round(max(0.0, time.monotonic() - message.asked), 6)
    if message.job is not None:
        headers |= {
            JOB: message.job,
            CLAIM: next(iter(message.claims), ""),
            DATABASE: message.database,
            ATTEMPT: message.attempt,
        }
        if message.again:
            headers[AGAIN] = True
    return headers


def _groups(messages: Sequence[JobMessage]) -> Iterator[Sequence[JobMessage]]:
    """Divide messages into groups that are made and sent in time."""
    first = size = 0
    for place, message in enumerate(messages):
        length = len(message.args) + len(message.kwargs) + len(message.options)
        if place > first and (place - first == GROUP or size + length > GROUP_SIZE):
            yield messages[first:place]
            first, size = place, 0
        size += length
    if messages:
        yield messages[first:]


def _traced(message: JobMessage, prepared: SendableMessage) -> AbstractContextManager[tracing.Carrier]:
    attributes: dict[str, str | int] = {}
    if message.jobs:
        attributes = {"pgreact.jobs": message.jobs, "pgreact.lane": message.lane}
    if message.job is not None:
        attributes = {
            "pgreact.job": message.job,
            "pgreact.lane": message.lane,
            "pgreact.attempt": message.attempt,
        }
    return prepared.traced(tracing.stored(message.trace), attributes, message.trace.get("ready"))


def _send_together(
    connection: BrokerConnection, prepared: Sequence[tuple[JobMessage, SendableMessage]]
) -> bool:
    """Send messages in one batch, where kombu can; false: the broker may have any of them."""
    producer = connection.producer
    if len(prepared) < 2 or not getattr(producer, "supports_batch_publish", False):  # kombu 5.7, for Redis
        return False
    try:
        with contextlib.ExitStack() as spans, producer.batch():  # type: ignore[attr-defined]
            for message, ready in prepared:
                ready.send(producer, spans.enter_context(_traced(message, ready)))
    except Exception:  # noqa: BLE001 - sent one by one, each has its own error
        connection.close()
        return False
    connection.used = True
    return True


# AMQP's reply codes about one message, never about all: no such exchange, precondition failed (its size)
_OF_ONE = {404, 406}


def _send(connection: BrokerConnection, message: JobMessage, ready: SendableMessage) -> Exception | None:
    """Send one message; return the error if the broker answers and refuses it."""
    producer = connection.producer
    for last in (False, True):
        try:
            if not ready.send_composed(producer):
                with _traced(message, ready) as headers:
                    ready.send(producer, headers)
        except Exception as error:  # noqa: BLE001
            fresh = not connection.used
            connection.close()
            # raises when the broker is away; a broker that refuses a message twice means it
            producer = connection.producer
            if last or (fresh and not isinstance(error, OSError | OperationalError)):
                return error
        else:
            connection.used = True
            return None
    raise AssertionError


def refusal_reason(error: Exception) -> str:
    """Return why a message cannot be sent, in characters that a database of any encoding stores."""
    return ascii_escaped(summary(error)[:1000])


def _read(name: str, text: str, *, marked: bool = False) -> Any:
    """Return the value of an argument or option of a job.

    Args:
        name: Which, for errors.
        text: Its JSON.
        marked: See :func:`pgreact.broker.json_reader.read`.

    Raises:
        ValueError: No worker could read it.
    """
    if text in {"[]", "{}"}:  # most options, and half of all arguments
        return [] if text == "[]" else {}
    try:
        return read(text, marked=marked)
    except Exception as error:
        raise ValueError(f"{name} cannot be read: {summary(error)}") from error


__all__ = [
    "JobMessage",
    "JobPublisher",
    "PublishFailed",
    "PublishResult",
    "message_options",
    "refusal_reason",
]
