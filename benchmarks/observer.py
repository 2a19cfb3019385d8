"""A consumer that records when messages arrive, from all sides."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from kombu import Connection, Queue

from pgreact.errors import PgreactError

DEADLINE = 30.0


class Observer:
    """A consumer of several durable queues on one connection, like a Celery worker.

    Attributes:
        seen: For each queue the times of arrival, of ``time.perf_counter``.
    """

    def __init__(self, broker: str, queues: Sequence[str]) -> None:
        self.seen: dict[str, list[float]] = {queue: [] for queue in queues}
        self._connection = Connection(broker)
        self._consumer = self._connection.Consumer(
            [Queue(queue) for queue in queues], on_message=self._note, no_ack=True
        )
        self._consumer.consume()

    def watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Receive messages until a condition holds; return whether it does in time."""
        end = time.perf_counter() + seconds
        while not (holds := until()) and (left := end - time.perf_counter()) > 0:
            with contextlib.suppress(TimeoutError):
                self._connection.drain_events(timeout=left)
        return holds

    def expect(self, queue: str, count: int) -> float:
        """Wait for ``count`` messages in a queue; return the arrival of the last one.

        Raises:
            PgreactError: Fewer arrive in time, or more.
        """
        seen = self.seen[queue]
        if not self.watch(DEADLINE, lambda: len(seen) >= count) or len(seen) > count:
            raise PgreactError(f"{len(seen)} instead of {count} messages in queue {queue}")
        return seen[count - 1]

    def close(self) -> None:
        """Close the connection."""
        self._connection.release()

    def _note(self, message: Any) -> None:
        self.seen[message.delivery_info["routing_key"]].append(time.perf_counter())
