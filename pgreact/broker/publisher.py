"""The publisher of the calls of routes, and the Celery application that it publishes through."""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.utils import find_app
from kombu.utils.url import maybe_sanitize_url

from pgreact.broker.connection import (
    NO_CLIENT,
    BrokerConnection,
    PublisherThread,
    PublishFailed,
    broker_url,
    missing_client,
)
from pgreact.broker.prepared_message import PreparedMessage
from pgreact.errors import ConfigError, nearest

__all__ = ["DEADLINE", "CeleryPublisher", "PublishFailed", "TaskCall", "open_app", "shown"]

# With the leader's last sign of life at most 5 s old when a publish begins, both end before PostgreSQL can
# give the lock of a vanished leader to another: 5 + 4 < 10. See "Leadership" in docs/protocols.md.
DEADLINE = 4.0


def open_app(app: str | None, broker: str | None) -> Celery:
    """Return the Celery application to publish through.

    Args:
        app: As ``celery -A`` takes it; its settings decide queues, routing and serializer.
        broker: A broker URL: no application is imported, or it overrides the application's.

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
        reason = _missing(app) or f"{type(error).__name__}: {error}"
        raise ConfigError(f'Celery application "{app}" cannot be imported: {reason}') from error
    if not isinstance(found, Celery):
        raise ConfigError(
            f'"{app}" is a {type(found).__name__}, not a Celery application: name it like proj.celery:app'
        )
    if broker is not None:
        found.conf["broker_url"] = broker
    return _checked(found)


def _missing(app: str) -> str | None:
    """Return which attribute a module lacks; Celery's own error takes the attribute for a module."""
    name, _, attribute = app.rpartition(":") if ":" in app else app.rpartition(".")
    module = sys.modules.get(name)  # find_app has imported it, if it can be imported
    if module is None or not attribute or hasattr(module, attribute):
        return None
    known = [found for found, value in vars(module).items() if isinstance(value, Celery)]
    return f'module "{name}" has no attribute "{attribute}"{nearest(attribute, known)}'


def _checked(app: Celery) -> Celery:
    """Return the application, once its broker's client is known to be installed."""
    try:
        assert app.connection_for_write().transport is not None
    except NO_CLIENT as error:
        raise ConfigError(f"broker {shown(app)}: {missing_client(app, error)}") from error
    except Exception as error:
        raise ConfigError(f"broker {shown(app)}: {type(error).__name__}: {error}") from error
    return app


def shown(app: Celery) -> str:
    """Return application and broker for a log, without password."""
    return f"{app.main or 'app'} via {maybe_sanitize_url(broker_url(app))}"


class CeleryPublisher:
    """Publishes the calls of routes through a Celery application, one message at a time."""

    def __init__(self, app: Celery, deadline: float = DEADLINE) -> None:
        self._thread = PublisherThread(app, deadline)

    def call(self, task: str, options: Mapping[str, Any], route: str) -> "TaskCall":
        """Return a call of a task that can be published again and again.

        Args:
            task: The task's name.
            options: Of ``send_task``; ``args`` and ``kwargs``, too.
            route: The route's name, for traces.
        """
        return TaskCall(self._thread, task, options, route)

    def warm_up(self) -> None:
        """Connect in the background."""
        self._thread.warm_up()

    async def close(self) -> None:
        """Close the connection."""
        self._thread.close()


class TaskCall:
    """A call of one task with fixed options, published under a new task id each time.

    The message of the next call is prepared once one is published: making it takes as long as sending it.
    """

    def __init__(self, thread: PublisherThread, task: str, options: Mapping[str, Any], route: str) -> None:
        self._thread = thread
        self._task = task
        self._options = options
        self._route = route
        self._prepared: PreparedMessage | None = None  # used only for its own task id
        self._next_task_id = ""

    async def publish(self, task_id: str, next_task_id: str, traces: Sequence[str] = ()) -> None:
        """Publish one call.

        Args:
            task_id: Celery's id of the call.
            next_task_id: The id of the following call, whose message is prepared meanwhile.
            traces: Trace contexts of the signals that the call answers, as far as they are known.

        Raises:
            PublishFailed: The broker did not confirm the message before the deadline.
        """

        def send(connection: BrokerConnection) -> None:
            began = time.monotonic()
            try:
                self._send(connection, task_id, traces)
            except Exception:
                # A connection that died while it was idle is noticed only when it is used: try a new one.
                late = time.monotonic() - began > connection.deadline / 2
                if not connection.used or connection.aborted or late:
                    raise
                connection.close()
                self._send(connection, task_id, traces)

        self._next_task_id = next_task_id
        await self._thread.call(send, self._prepare_next)

    def _prepare_next(self, connection: BrokerConnection) -> None:
        if not connection.connected or "countdown" in self._options:  # an eta must not grow old
            return
        # the next publish does again what fails here, and reports the error
        with contextlib.suppress(Exception):
            self._prepared = self._message(connection, self._next_task_id)
            self._prepared.compose(connection.producer)

    def _send(self, connection: BrokerConnection, task_id: str, traces: Sequence[str]) -> None:
        producer = connection.producer
        message, self._prepared = self._prepared, None
        if message is None or message.task_id != task_id:
            message = self._message(connection, task_id)
        if not message.send_composed(producer):
            links = [{"traceparent": traceparent} for traceparent in traces]
            with message.traced({}, {"pgreact.route": self._route}, links=links) as headers:
                message.send(producer, headers)
        connection.used = True

    def _message(self, connection: BrokerConnection, task_id: str) -> PreparedMessage:
        return PreparedMessage(connection, self._task, task_id, self._options)
