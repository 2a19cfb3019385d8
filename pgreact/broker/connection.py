"""The connection to Celery's broker, and the thread that uses it: kombu's calls block."""

import asyncio
import contextlib
import functools
import importlib.metadata
import queue
import re
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from celery import Celery
from kombu import Connection, Producer
from kombu.transport import TRANSPORT_ALIASES

from pgreact.errors import PgreactError
from pgreact.quantities import format_duration

T = TypeVar("T")

IDLE = 0.005  # seconds without a call, after which the thread does what may wait

# What kombu's modules raise where the client of a broker is missing: some go on without it until it is used.
NO_CLIENT = (ImportError, NameError, AttributeError)


class PublishFailed(PgreactError):
    """The broker did not confirm the message; it may have it all the same."""


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


class BrokerConnection:
    """A connection to the broker: opened at the first use, and again after it broke."""

    def __init__(self, app: Celery, deadline: float) -> None:
        self.app = app
        self.deadline = deadline
        self.connection: Connection | None = None
        self.used = False  # a message went through it
        self.aborted = False
        self._producer: Producer | None = None

    @property
    def producer(self) -> Producer:
        """The producer to publish with; connects.

        Raises:
            Exception: Whatever kombu raises when the broker cannot be reached.
        """
        if self.aborted:
            raise PublishFailed("the publish was given up")
        if self._producer is None:
            # heartbeat 0: this thread could not answer one between two dispatches
            try:
                self.connection = self.app.connection_for_write(
                    connect_timeout=self.deadline / 2,
                    heartbeat=0,
                    transport_options=self._transport_options(),
                )
                assert self.connection.transport is not None
            except NO_CLIENT as error:
                raise PublishFailed(missing_client(self.app, error)) from error
            # one try without pauses: the flight has a back-off of its own, and kombu's retries have no end
            self.connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, interval_max=0
            )
            producer = _Producer(self.connection, auto_declare=False)
            assert producer.channel is not None  # connects; also loads what Celery loads at the first message
            _keep_client(producer.channel)
            self._producer = producer
        return self._producer

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._producer is not None

    def close(self, orderly: bool = False) -> None:
        """Close the connection; the next use opens another.

        Args:
            orderly: Whether to take leave of the broker, which answers; else its answer is not waited for.
        """
        connection, self.connection, self._producer, self.used = self.connection, None, None, False
        if connection is None:
            return
        with contextlib.suppress(Exception):  # it has failed, or the broker is away
            if orderly and (sock := _amqp_socket(connection)) is not None:
                sock.settimeout(self.deadline / 2)
                connection.release()
        with contextlib.suppress(Exception):
            connection.collect()

    def abort(self) -> None:
        """Shut the socket down while another thread uses it, so that a hanging call ends; for good."""
        self.aborted = True
        if (sock := _amqp_socket(self.connection)) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _transport_options(self) -> dict[str, Any]:
        transport = self.app.connection_for_write().transport_cls
        if "amqp" in str(transport):
            return {"confirm_publish": True}
        if "redis" in str(transport):
            return {"socket_timeout": self.deadline / 2, "socket_connect_timeout": self.deadline / 2}
        return {}


def _amqp_socket(connection: Connection | None) -> socket.socket | None:
    transport = getattr(getattr(connection, "_connection", None), "transport", None)
    sock: socket.socket | None = getattr(transport, "sock", None)
    return sock


def _keep_client(channel: Any) -> None:
    """Let a channel of kombu's Redis transport make its client once, not for each message in 0.1 ms."""
    make = getattr(channel, "_create_client", None)
    if make is not None:
        channel._create_client = functools.cache(make)


class _Call:
    """A function to run in the publisher thread, what to run after it, and where its result goes."""

    def __init__(
        self,
        function: Callable[[BrokerConnection], Any],
        after: Callable[[BrokerConnection], None] | None,
        done: Callable[[Any, Exception | None], None],
    ) -> None:
        self.function = function
        self.after = after
        self.done = done


class PublisherThread:
    """Runs one function after the other in a thread with a broker connection.

    A function that exceeds the deadline is given up: its connection is aborted, and the next function gets a
    new thread and a new connection.
    """

    def __init__(self, app: Celery, deadline: float) -> None:
        """Remember where to connect; nothing is connected yet.

        Args:
            app: The application whose broker it is.
            deadline: Seconds for each function.
        """
        self._app = app
        self._deadline = deadline
        self._thread: _Thread | None = None

    def warm_up(self) -> None:
        """Connect in the background, so that the first publish after an election need not."""
        self._thread = self._thread or _Thread(BrokerConnection(self._app, self._deadline))

    async def call(
        self,
        function: Callable[[BrokerConnection], T],
        after: Callable[[BrokerConnection], None] | None = None,
    ) -> T:
        """Run a function in the thread.

        Args:
            function: What to run.
            after: What to run there once no call has come for :data:`IDLE`: who gets the message needs the
                processor first. It runs once for all calls that gave it meanwhile.

        Returns:
            The function's result.

        Raises:
            PublishFailed: It failed, or exceeded the deadline.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: Exception | None) -> None:
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)

        def done(value: Any, error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the caller is gone
                loop.call_soon_threadsafe(settle, value, error)

        self.warm_up()
        thread = self._thread
        assert thread is not None
        try:
            async with asyncio.timeout(self._deadline):
                # last: the thread then need not wait until this one releases the GIL
                thread.calls.put(_Call(function, after, done))
                return await result
        except TimeoutError:
            self._thread = None
            thread.connection.abort()
            thread.calls.put(None)
            raise PublishFailed(f"no answer from the broker in {format_duration(self._deadline)}") from None
        except PublishFailed:
            raise
        except Exception as error:
            raise PublishFailed(summary(error)) from error

    def close(self) -> None:
        """End the thread and its connection."""
        if self._thread is not None:
            self._thread.calls.put(None)
            self._thread = None


class _Thread:
    def __init__(self, connection: BrokerConnection) -> None:
        self.connection = connection
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        # a daemon thread: a broker that hangs must not hold up the exit
        threading.Thread(target=self._run, name="publisher", daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(Exception):
            # a failure to connect is reported by the first publish
            assert self.connection.producer
        later: dict[Callable[[BrokerConnection], None], None] = {}  # in order
        while True:
            try:
                call = self.calls.get(timeout=IDLE if later else None)
            except queue.Empty:
                for after in later:
                    after(self.connection)
                later.clear()
                continue
            if call is None or self.connection.aborted:
                break
            value: Any = None
            failure: Exception | None = None
            try:
                value = call.function(self.connection)
            except Exception as error:  # noqa: BLE001 - the caller gets whatever kombu raises
                self.connection.close()
                failure = error
            call.done(value, failure)
            if call.after is not None:
                later[call.after] = None
        self.connection.close(orderly=not self.connection.aborted)


def broker_url(app: Celery) -> str:
    """Return the URL of an application's broker; the first, if it has several."""
    url = app.conf.broker_write_url or app.conf.broker_url or "amqp://"
    return (url if isinstance(url, str) else str(url[0])).split(";")[0]


def missing_client(app: Celery, error: Exception) -> str:
    """Return the error of a broker's client that is not installed as it should be, and what to install."""
    kind = broker_url(app).partition("://")[0].partition("+")[0]
    # "kombu.transport.SQS:Transport" needs kombu's extra "sqs"
    module = TRANSPORT_ALIASES.get(kind, "").removeprefix("kombu.transport.")
    extra = re.split("[:.]", module)[0].lower()
    if extra == "redis":
        hint = "pip install 'pgreact[redis]'"
    elif extra in (importlib.metadata.metadata("kombu").get_all("Provides-Extra") or ()):
        hint = f"pip install 'kombu[{extra}]'"
    else:
        hint = "install the client that this kind of broker needs"
    return f"{summary(error)}; {hint}"


def summary(error: Exception) -> str:
    """Return an error's type and first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no details'}"
