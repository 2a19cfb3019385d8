"""The way to the broker: a thread of its own, because kombu blocks, with one connection."""

import asyncio
import contextlib
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

T = TypeVar("T")

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


class Wire:
    """A connection to the broker, made when it is needed and made anew when it broke."""

    def __init__(self, app: Celery, deadline: float) -> None:
        self.app = app
        self.deadline = deadline
        self.connection: Connection | None = None
        self.used = False  # something went through it
        self.severed = False
        self._producer: Producer | None = None

    @property
    def producer(self) -> Producer:
        """What to publish with; connects.

        Raises:
            Exception: Whatever kombu raises when the broker cannot be reached.
        """
        if self.severed:
            raise PublishFailed("nobody waits for it any more")
        if self._producer is None:
            # heartbeat 0: nobody would answer them between two dispatches
            try:
                self.connection = self.app.connection_for_write(
                    connect_timeout=self.deadline / 2,
                    heartbeat=0,
                    transport_options=self._transport_options(),
                )
                assert self.connection.transport is not None
            except NO_CLIENT as error:
                raise PublishFailed(what_is_missing(self.app, error)) from error
            # no pauses and no more: the flight has a back-off of its own, and who repeats for ever never ends
            self.connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, interval_max=0
            )
            producer = _Producer(self.connection, auto_declare=False)
            assert producer.channel is not None  # connects; also loads what Celery loads at the first message
            self._producer = producer
        return self._producer

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._producer is not None

    def hang_up(self) -> None:
        """Forget the connection."""
        connection, self.connection, self._producer, self.used = self.connection, None, None, False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collapse()  # type: ignore[attr-defined]

    def sever(self) -> None:
        """Tear the connection from under the thread that uses it, so that a hanging call ends."""
        self.severed = True
        transport = getattr(getattr(self.connection, "_connection", None), "transport", None)
        sock = getattr(transport, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _transport_options(self) -> dict[str, Any]:
        transport = self.app.connection_for_write().transport_cls
        if "amqp" in str(transport):
            return {"confirm_publish": True}
        if "redis" in str(transport):
            return {"socket_timeout": self.deadline / 2, "socket_connect_timeout": self.deadline / 2}
        return {}


class _Item:
    """Something to be done on the line, and whom to tell."""

    def __init__(
        self,
        work: Callable[[Wire], Any],
        after: Callable[[Wire], None],
        answer: Callable[[Any, Exception | None], None],
    ) -> None:
        self.work = work
        self.after = after
        self.answer = answer


class Line:
    """Does one thing after the other. What hangs is severed and left behind, not waited for."""

    def __init__(self, app: Celery, deadline: float) -> None:
        """Nothing is connected yet.

        Args:
            app: Whose broker it is.
            deadline: Seconds for each piece of work.
        """
        self._app = app
        self._deadline = deadline
        self._thread: _Thread | None = None

    def warm_up(self) -> None:
        """Connect beforehand, in the background: the first publish after an election must not wait for it."""
        self._thread = self._thread or _Thread(Wire(self._app, self._deadline))

    async def call(self, work: Callable[[Wire], T], after: Callable[[Wire], None] = lambda _wire: None) -> T:
        """Do something in the line's thread.

        Args:
            work: What to do there.
            after: What to do there once the answer is out.

        Returns:
            What ``work`` returned.

        Raises:
            PublishFailed: It failed, or did not end in time.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(result)

        def answer(result: Any, error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self.warm_up()
        thread = self._thread
        assert thread is not None
        try:
            async with asyncio.timeout(self._deadline):
                # last: the thread must not have to wait for us to let go of the interpreter
                thread.items.put(_Item(work, after, answer))
                return await answered
        except TimeoutError:
            self._thread = None
            thread.wire.sever()
            thread.items.put(None)
            raise PublishFailed(f"no answer from the broker in {self._deadline:g} s") from None
        except PublishFailed:
            raise
        except Exception as error:
            raise PublishFailed(told(error)) from error

    def close(self) -> None:
        """Hang up."""
        if self._thread is not None:
            self._thread.items.put(None)
            self._thread = None


class _Thread:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        # a daemon thread: a broker that hangs must not hold up the exit
        threading.Thread(target=self._work, name="publisher", daemon=True).start()

    def _work(self) -> None:
        with contextlib.suppress(Exception):
            # its failure is not news yet: nothing is lost before something is published
            assert self.wire.producer
        while (item := self.items.get()) is not None and not self.wire.severed:
            result: Any = None
            failure: Exception | None = None
            try:
                result = item.work(self.wire)
            except Exception as error:  # noqa: BLE001 - whatever kombu raises, the daemon must hear of it
                self.wire.hang_up()
                failure = error
            item.answer(result, failure)
            item.after(self.wire)
        self.wire.hang_up()


def broker_url(app: Celery) -> str:
    """Return where an application's messages go; the first place, if there are several."""
    url = app.conf.broker_write_url or app.conf.broker_url or "amqp://"
    return (url if isinstance(url, str) else str(url[0])).split(";")[0]


def what_is_missing(app: Celery, error: Exception) -> str:
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
    return f"{told(error)}; {hint}"


def told(error: Exception) -> str:
    """Return an error's type and first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no details'}"
