"""The one consumer that sees what was published, whoever published it."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from kombu import Connection, Queue

from pgreact.errors import PgreactError

DEADLINE = 30.0


class Observer:
    """Reads several durable queues on one connection, as a Celery worker does, and notes when.

    Attributes:
        seen: For each queue the moments its messages arrived, as ``time.perf_counter`` tells them.
    """

    def __init__(self, broker: str, queues: Sequence[str]) -> None:
        self.seen: dict[str, list[float]] = {queue: [] for queue in queues}
        self._connection = Connection(broker)
        self._consumer = self._connection.Consumer(
            [Queue(queue) for queue in queues], on_message=self._note, no_ack=True
        )
        self._consumer.consume()

    def watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Take in messages until a condition is true; return whether it became so in time."""
        end = time.perf_counter() + seconds
        while not (true := until()) and (left := end - time.perf_counter()) > 0:
            with contextlib.suppress(TimeoutError):
                self._connection.drain_events(timeout=left)
        return true

    def expect(self, queue: str, count: int) -> float:
        """Wait until so many messages were seen in a queue; return the moment of the last of them.

        Raises:
            PgreactError: They do not come, or there are more.
        """
        seen = self.seen[queue]
        if not self.watch(DEADLINE, lambda: len(seen) >= count) or len(seen) > count:
            raise PgreactError(f"{len(seen)} instead of {count} messages in queue {queue}")
        return seen[count - 1]

    def close(self) -> None:
        """Hang up."""
        self._connection.release()

    def _note(self, message: Any) -> None:
        self.seen[message.delivery_info["routing_key"]].append(time.perf_counter())
