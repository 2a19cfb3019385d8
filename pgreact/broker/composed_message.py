"""Messages as kombu hands them to a broker's client: what is left is to publish them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from kombu import Producer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMessage:
    """A message of a channel: the arguments of kombu's ``prepare_message`` and ``basic_publish``.

    Attributes:
        channel: The channel, on which the message's queue is declared.
        body: The serialized body.
        content: Priority, content type and content encoding.
        headers: The headers.
        properties: The further properties.
        destination: Where and how to publish it.
    """

    channel: Any
    body: Any
    content: tuple[Any, ...]
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    destination: Mapping[str, Any]

    def publish(self, **headers: object) -> None:
        """Publish the message.

        Args:
            **headers: In place of those it has.

        Raises:
            Exception: Whatever kombu raises.
        """
        given = {**self.headers, **headers}, dict(self.properties)  # a transport may keep and change them
        message = self.channel.prepare_message(self.body, *self.content, *given)
        self.channel.basic_publish(message, **self.destination)

    def replace(self, body: Any, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Self:
        """Return a message that goes the same way.

        Args:
            body: The serialized body.
            headers: The headers.
            properties: Those that differ.
        """
        return dataclasses.replace(
            self, body=body, headers=headers, properties={**self.properties, **properties}
        )


def compose(producer: Producer, send: Callable[[], object]) -> ComposedMessage | None:
    """Return the message that a function sends, in place of sending it; ``None``: it sends other than one.

    Args:
        producer: By which the function sends. It declares the queue now.
        send: The function.

    Raises:
        Exception: Whatever the function raises.
    """
    channel: Any = producer.channel
    prepare = channel.prepare_message
    prepared: list[tuple[Any, ...]] = []
    published: list[Mapping[str, Any]] = []

    def prepare_message(
        body: Any,
        priority: Any = None,
        content_type: Any = None,
        content_encoding: Any = None,
        headers: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Any:
        content = (priority, content_type, content_encoding)
        prepared.append((body, content, dict(headers or {}), dict(properties or {})))
        return prepare(body, *content, headers, properties)

    def basic_publish(_message: Any, **destination: Any) -> None:
        published.append(destination)

    with (
        _replaced(channel, "prepare_message", prepare_message),
        _replaced(channel, "basic_publish", basic_publish),
    ):
        send()
    if not len(prepared) == len(published) == 1:
        return None
    (body, content, headers, properties), (destination,) = prepared[0], published
    return ComposedMessage(
        channel=channel,
        body=body,
        content=content,
        headers=headers,
        properties=properties,
        destination=destination,
    )


@contextlib.contextmanager
def _replaced(channel: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let a channel have another method meanwhile."""
    # py-amqp's ``basic_publish`` is an attribute of the channel, where it waits for confirms
    own = vars(channel).get(name)
    setattr(channel, name, function)
    try:
        yield
    finally:
        if own is None:
            delattr(channel, name)
        else:
            setattr(channel, name, own)
