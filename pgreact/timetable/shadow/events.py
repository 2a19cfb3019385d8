"""Celery's events of messages that were sent."""

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

MANY = 1000  # what is heard is told after so many, however many more there are


class Events:
    """Receives ``task-sent``; whoever sends must have the setting ``task_send_sent_event``.

    Attributes:
        errors: What is raised when the broker is away.
    """

    def __init__(self, app: Celery) -> None:
        """Begin without a connection.

        Args:
            app: On whose broker the events are.
        """
        self._app = app
        self._heard: list[Sent] = []
        with app.connection_for_read() as connection:
            kinds = (*connection.connection_errors, *connection.channel_errors)
        self.errors: tuple[type[BaseException], ...] = (*kinds, OperationalError, OSError)

    @contextmanager
    def listening(self) -> Iterator[Connection]:
        """Connect; what is sent from here on is heard."""
        with self._app.connection_for_read() as connection:
            receiver: Any = _Receiver(
                connection, {"task-sent": self._note}, routing_key="task.sent", app=self._app
            )
            with receiver.consumer_context(wakeup=False) as (own, _channel, _consumers):
                self.hear(own, 0.2)  # on Redis it is the first look that subscribes
                yield own

    def hear(self, connection: Connection, seconds: float) -> list[Sent]:
        """Return what was sent since the last time, or after so many seconds nothing."""
        try:
            while len(self._heard) < MANY:
                connection.drain_events(timeout=seconds)
                seconds = 0.01  # there may be more
        except TimeoutError:
            connection.heartbeat_check()
        heard, self._heard = self._heard, []
        return heard

    def _note(self, event: dict[str, Any]) -> None:
        self._heard.append(
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
        """Leave it to whoever asked for the connection."""

    def event_from_message(self, body: Any, *_: Any, **__: Any) -> tuple[str, dict[str, Any]]:
        """Leave the time as it was written: in seconds since 1970, wherever the sender is."""
        return body["type"], body
