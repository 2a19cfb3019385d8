"""A message as Celery makes it, ready to be sent."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from kombu import Producer

from pgreact.dispatch.wire import Wire


class _NoResult:
    """Instead of Celery's result object, which would open the result backend."""

    def __init__(self, task_id: str) -> None:
        self.id = task_id


class Draft:
    """One call of a task, made by Celery with all that belongs to it.

    Making it takes as long as sending it, so it can be made while nobody waits. For ``send_task`` it is the
    producer to send through; the message ends here.
    """

    def __init__(self, wire: Wire, task: str, task_id: str, options: Mapping[str, Any]) -> None:
        """Make the message.

        Args:
            wire: Where it will be sent.
            task: The task's name.
            task_id: The call's id.
            options: Of ``send_task``, ``args`` and ``kwargs`` too. The result is ignored by whoever sends;
                by the worker, too, if ``ignore_result`` says so.

        Raises:
            Exception: Whatever Celery raises about arguments or options.
        """
        _let_drafts_be_made(wire.app)
        assert wire.producer
        self.connection = wire.connection  # ``send_task`` asks its producer for it
        self.task_id = task_id
        self._zone = wire.app.timezone
        self._lasts = options.get("expires")
        wire.app.send_task(
            task,
            task_id=task_id,
            producer=self,  # type: ignore[arg-type]
            retry=False,
            add_to_parent=False,
            result_cls=_NoResult,  # type: ignore[arg-type]
            confirm_timeout=wire.deadline,
            # the backend is not told: it would begin to wait for the result
            **{"serializer": wire.app.conf.task_serializer, **options, "ignore_result": True},
        )
        if isinstance(self._message.headers, dict) and "ignore_result" in self._message.headers:
            self._message.headers["ignore_result"] = bool(options.get("ignore_result"))

    def take(self, sender: Callable[..., object], name: str, message: Any, options: dict[str, Any]) -> None:
        """Keep what Celery would send, and with what."""
        self._sender, self._name, self._message, self._options = sender, name, message, options

    def send(self, producer: Producer) -> None:
        """Send it, with Celery's signals; if it expires after some seconds, they count from now."""
        if isinstance(self._lasts, int | float):
            moment = datetime.datetime.now(self._zone) + datetime.timedelta(seconds=self._lasts)
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
        if not isinstance(producer, Draft):
            return sender(producer, name, message, **options)
        producer.take(sender, name, message, options)
        return None

    send_task_message.makes_drafts = True  # type: ignore[attr-defined]
    app.amqp.send_task_message = send_task_message  # type: ignore[misc]
