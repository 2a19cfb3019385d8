"""The only door to Celery: one message at a time, from a thread of its own, because kombu blocks."""

import asyncio
import contextlib
import dataclasses
import datetime
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from celery import Celery
from celery.app.utils import find_app
from kombu import Connection, Producer
from kombu.utils.url import maybe_sanitize_url

from pgreact.dispatch.route import Route
from pgreact.errors import ConfigError, PgreactError

# With the leader's last sign of life at most 5 s old when a publish begins, both end before PostgreSQL can
# give the lock of a vanished leader to another: 5 + 4 < 10. See "Leadership" in docs/protocols.md.
DEADLINE = 4.0


class PublishFailed(PgreactError):
    """The broker did not confirm the message; it may have it all the same."""


class Publisher(Protocol):
    """What the dispatcher needs; the tests have one that fails on demand."""

    async def publish(self, route: Route, task_id: str, following: str) -> None:
        """Publish one call of the route's task.

        Args:
            route: Whose task it is.
            task_id: The call's id.
            following: The id of the call after that, which can be made meanwhile.

        Raises:
            PublishFailed: The broker did not confirm it before the deadline.
        """
        ...


def open_app(app: str | None, broker: str | None) -> Celery:
    """Return the Celery application to publish through.

    Args:
        app: As ``celery -A`` takes it; its settings decide queues, routing and serializer.
        broker: A broker URL, when no application need be imported; with both, it overrides the app's.

    Raises:
        ConfigError: Neither is given, or the application cannot be imported.
    """
    if app is None and broker is None:
        raise ConfigError('no Celery application: set "app" or "broker" in pgreact.toml, or give -A proj')
    if app is None:
        return _checked(Celery("pgreact", broker=broker, set_as_current=False))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = find_app(app)
    except Exception as error:
        raise ConfigError(
            f'Celery application "{app}" cannot be imported: {type(error).__name__}: {error}'
        ) from error
    if not isinstance(found, Celery):
        raise ConfigError(
            f'"{app}" is a {type(found).__name__}, not a Celery application: name it like proj.celery:app'
        )
    if broker is not None:
        found.conf["broker_url"] = broker
    return _checked(found)


def _checked(app: Celery) -> Celery:
    """Make sure that there is code for the broker's kind, before anything waits for it."""
    try:
        assert app.connection_for_write().transport is not None
    except Exception as error:
        raise ConfigError(f"broker {shown(app)}: {type(error).__name__}: {error}") from error
    return app


def shown(app: Celery) -> str:
    """Return application and broker for a log, without password."""
    url = app.conf.broker_write_url or app.conf.broker_url or "amqp://"
    first = url if isinstance(url, str) else url[0]
    return f"{app.main or 'app'} via {maybe_sanitize_url(first.split(';')[0])}"


class _NoResult:
    """Instead of Celery's result object, which would open the result backend."""

    def __init__(self, task_id: str) -> None:
        self.id = task_id


class _Producer(Producer):
    """Remembers what it declared; kombu does, too, but copies queue and exchange to find out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._declared: dict[str, object] = {}

    def maybe_declare(self, entity: Any, retry: bool = False, **policy: Any) -> Any:
        """Declare a queue unless that was done on this connection."""
        if self._declared.get(entity.name) is entity:
            return False
        declared = super().maybe_declare(entity, retry, **policy)
        if entity.can_cache_declaration:
            self._declared[entity.name] = entity
        return declared


class _Draft:
    """One call of a route's task, made by Celery with all that belongs to it, and ready to be sent.

    Making it takes as long as sending it, so the next one is made while nobody waits. For ``send_task`` it
    is the producer to send through; the message ends here.
    """

    def __init__(self, app: Celery, route: Route, task_id: str, connection: Any, deadline: float) -> None:
        self.route = route
        self.task_id = task_id
        self.connection = connection  # ``send_task`` asks its producer for it
        self._zone = app.timezone
        options = {"ignore_result": True, "serializer": app.conf.task_serializer, **route.options}
        if route.single_flight == "run":
            # the worker's hook takes the locks of this route
            options["headers"] = {**(options.get("headers") or {}), "pgreact_route": route.id}
        app.send_task(
            route.task,
            args=options.pop("args", None),
            kwargs=options.pop("kwargs", None),
            countdown=route.countdown or None,
            expires=route.expires,
            task_id=self.task_id,
            producer=self,  # type: ignore[arg-type]
            retry=False,
            add_to_parent=False,
            result_cls=_NoResult,  # type: ignore[arg-type]
            confirm_timeout=deadline,
            **options,
        )

    def take(self, sender: Callable[..., object], name: str, message: Any, options: dict[str, Any]) -> None:
        """Keep what Celery would send, and with what."""
        self._sender, self._name, self._message, self._options = sender, name, message, options

    def send(self, producer: Producer) -> None:
        """Send it, with Celery's signals; it expires that long after now."""
        if self.route.expires is not None:
            moment = datetime.datetime.now(self._zone) + datetime.timedelta(seconds=self.route.expires)
            # in the headers, or in the body of the old task protocol, and in the event "task-sent"
            for part in (self._message.headers, self._message.body, self._message.sent_event):
                if isinstance(part, dict) and part.get("expires"):
                    part["expires"] = moment.isoformat()
        self._sender(producer, self._name, self._message, **self._options)


def _let_drafts_be_made(app: Celery) -> None:
    """Between making a message and sending it: the only place where ``send_task`` can be halted."""
    sender = app.amqp.send_task_message
    if getattr(sender, "makes_drafts", False):
        return

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> object:
        if not isinstance(producer, _Draft):
            return sender(producer, name, message, **options)
        producer.take(sender, name, message, options)
        return None

    send_task_message.makes_drafts = True  # type: ignore[attr-defined]
    app.amqp.send_task_message = send_task_message  # type: ignore[misc]


@dataclasses.dataclass
class _Call:
    route: Route
    task_id: str
    following: str
    answer: Callable[[Exception | None], None]


class CeleryPublisher:
    """Publishes through a Celery application."""

    def __init__(self, app: Celery, deadline: float = DEADLINE) -> None:
        self._app = app
        self._deadline = deadline
        self._line: _Line | None = None

    async def publish(self, route: Route, task_id: str, following: str) -> None:
        """Publish one call of the route's task.

        Args:
            route: Whose task it is.
            task_id: The call's id.
            following: The id of the call after that, which can be made meanwhile.

        Raises:
            PublishFailed: The broker did not confirm it before the deadline.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(None)

        def answer(error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, error)

        line = self._line = self._line or _Line(self._app, self._deadline)
        try:
            async with asyncio.timeout(self._deadline):
                # last: the thread must not have to wait for us to let go of the interpreter
                line.calls.put(_Call(route, task_id, following, answer))
                await answered
        except TimeoutError:
            self._line = None
            line.sever()
            raise PublishFailed(f"no answer from the broker in {self._deadline:g} s") from None
        except Exception as error:
            text = str(error).strip().splitlines()
            raise PublishFailed(f"{type(error).__name__}: {text[0] if text else 'no details'}") from error

    def warm_up(self) -> None:
        """Connect beforehand, in the background: the first publish after an election must not wait for it."""
        self._line = self._line or _Line(self._app, self._deadline)

    async def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.calls.put(None)
            self._line = None


class _Line:
    """One thread with one connection. When it hangs it is severed and left behind, not waited for."""

    def __init__(self, app: Celery, deadline: float) -> None:
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._app = app
        self._deadline = deadline
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._drafts: dict[int, _Draft] = {}
        self._used = False
        self._severed = False
        # a daemon thread: a broker that hangs must not hold up the exit
        threading.Thread(target=self._work, name="publisher", daemon=True).start()

    def sever(self) -> None:
        """Tear the connection from under the thread, so that a hanging call ends."""
        self._severed = True
        self.calls.put(None)
        transport = getattr(getattr(self._connection, "_connection", None), "transport", None)
        sock = getattr(transport, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _work(self) -> None:
        with contextlib.suppress(Exception):
            # its failure is not news yet: nothing is lost before something is published
            self._producer = self._connect()
        while (call := self.calls.get()) is not None and not self._severed:
            failure: Exception | None = None
            try:
                self._publish(call)
            except Exception as error:  # noqa: BLE001 - whatever kombu raises, the daemon must hear of it
                self._hang_up()
                failure = error
            call.answer(failure)
            self._draft_next(call)
        self._hang_up()

    def _publish(self, call: _Call) -> None:
        began = time.monotonic()
        try:
            self._send(call)
        except Exception:
            # A connection that was fine an hour ago may be dead by now, and says so only when it is used.
            if not self._used or self._severed or time.monotonic() - began > self._deadline / 2:
                raise
            self._hang_up()
            self._send(call)

    def _connect(self) -> Producer:
        # heartbeat 0: nobody would answer them between two dispatches
        self._connection = self._app.connection_for_write(
            connect_timeout=self._deadline / 2, heartbeat=0, transport_options=self._transport_options()
        )
        # no pauses and no more: the flight has a back-off of its own, and who repeats for ever never ends
        self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0)
        producer = _Producer(self._connection, auto_declare=False)
        assert producer.channel is not None  # connects; also loads what Celery loads at the first message
        _let_drafts_be_made(self._app)
        return producer

    def _send(self, call: _Call) -> None:
        if self._producer is None:
            self._producer = self._connect()
        if self._severed:
            raise PublishFailed("nobody waits for it any more")
        draft = self._drafts.pop(call.route.id, None)
        if draft is None or draft.route is not call.route or draft.task_id != call.task_id:
            draft = _Draft(self._app, call.route, call.task_id, self._producer.connection, self._deadline)
        draft.send(self._producer)
        self._used = True

    def _draft_next(self, call: _Call) -> None:
        if self._producer is None or call.route.countdown:  # an eta must not grow old
            return
        with contextlib.suppress(Exception):  # the dispatch itself will tell
            self._drafts[call.route.id] = _Draft(
                self._app, call.route, call.following, self._producer.connection, self._deadline
            )

    def _transport_options(self) -> dict[str, Any]:
        transport = self._app.connection_for_write().transport_cls
        if "amqp" in str(transport):
            return {"confirm_publish": True}
        if "redis" in str(transport):
            return {"socket_timeout": self._deadline / 2, "socket_connect_timeout": self._deadline / 2}
        return {}

    def _hang_up(self) -> None:
        connection, self._connection, self._producer, self._used = self._connection, None, None, False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collapse()  # type: ignore[attr-defined]
