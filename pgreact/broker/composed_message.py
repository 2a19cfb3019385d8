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
        message: As the channel made it, with these very headers; ``None``: it makes it when it is published.
    """

    channel: Any
    body: Any
    content: tuple[Any, ...]
    headers: dict[str, Any]
    properties: Mapping[str, Any]
    destination: Mapping[str, Any]
    message: Any = dataclasses.field(default=None, compare=False)

    def publish(self, **headers: object) -> None:
        """Publish the message, once.

        Args:
            **headers: In place of those it has.

        Raises:
            Exception: Whatever kombu raises.
        """
        self.headers.update(headers)
        message = self.message
        if message is None:
            # a transport may keep and change the properties
            given = self.headers, dict(self.properties)
            message = self.channel.prepare_message(self.body, *self.content, *given)
        self.channel.basic_publish(message, **self.destination)

    def replace(self, body: Any, headers: dict[str, Any], properties: Mapping[str, Any]) -> Self:
        """Return a message that goes the same way.

        Args:
            body: The serialized body.
            headers: The headers.
            properties: Those that differ.
        """
        return dataclasses.replace(
            self, body=body, headers=headers, properties={**self.properties, **properties}, message=None
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
    published: list[tuple[Any, Mapping[str, Any]]] = []

    def prepare_message(
        body: Any,
        priority: Any = None,
        content_type: Any = None,
        content_encoding: Any = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Any:
        content, headers = (priority, content_type, content_encoding), headers or {}
        prepared.append((body, content, headers, dict(properties or {})))
        return prepare(body, *content, headers, properties)

    def basic_publish(message: Any, **destination: Any) -> None:
        published.append((message, destination))

    with (
        _replaced(channel, "prepare_message", prepare_message),
        _replaced(channel, "basic_publish", basic_publish),
    ):
        send()
    if not len(prepared) == len(published) == 1:
        return None
    [(body, content, headers, properties)], [(message, destination)] = prepared, published
    return ComposedMessage(
        channel=channel,
        body=body,
        content=content,
        headers=headers,
        properties=properties,
        destination=destination,
        message=message,
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
