"""Receive Celery's ``task-sent`` events."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.events.receiver import EventReceiver
from kombu import Connection
from kombu.exceptions import OperationalError

from pgreact.timetable.shadow.call import Call
from pgreact.timetable.shadow.comparison import Sent

BATCH = 1000  # events returned at a time, at most


class Events:
    """Receives ``task-sent`` from applications with the setting ``task_send_sent_event``.

    Attributes:
        errors: The exceptions that mean that the broker is away.
    """

    def __init__(self, app: Celery) -> None:
        """Connect to nothing yet.

        Args:
            app: Its broker has the events.
        """
        self._app = app
        self._received: list[Sent] = []
        with app.connection_for_read() as connection:
            kinds = (*connection.connection_errors, *connection.channel_errors)
        self.errors: tuple[type[BaseException], ...] = (*kinds, OperationalError, OSError)

    @contextmanager
    def listening(self) -> Iterator[Connection]:
        """Connect, and receive what is sent from here on."""
        with self._app.connection_for_read() as connection:
            receiver: Any = _Receiver(
                connection, {"task-sent": self._note}, routing_key="task.sent", app=self._app
            )
            with receiver.consumer_context(wakeup=False) as (own, _channel, _consumers):
                self.receive(own, 0.2)  # on Redis the first read subscribes
                yield own

    def receive(self, connection: Connection, seconds: float) -> list[Sent]:
        """Return what was sent since the last call; wait up to ``seconds`` for the first message."""
        try:
            while len(self._received) < BATCH:
                connection.drain_events(timeout=seconds)
                seconds = 0.01  # there may be more
        except TimeoutError:
            connection.heartbeat_check()
        received, self._received = self._received, []
        return received

    def _note(self, event: dict[str, Any]) -> None:
        self._received.append(
            Sent(
                Call(event["name"], event.get("args") or "()", event.get("kwargs") or "{}"),
                datetime.datetime.fromtimestamp(event["timestamp"], datetime.UTC),
                f"{event.get('hostname')}:{event.get('pid')}",
                event["uuid"],
            )
        )


class _Receiver(EventReceiver):
    connect_max_retries = 1

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Do nothing: ``listening`` raises the error."""

    def event_from_message(self, body: Any, *_: Any, **__: Any) -> tuple[str, dict[str, Any]]:
        """Keep the timestamp as it was sent, in seconds since 1970; Celery would adjust it to local time."""
        return body["type"], body
