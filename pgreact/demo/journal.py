"""The log events of all processes of the demo, and waits for them."""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgreact.errors import PgreactError
from pgreact.quantities import format_duration

ENDED = "process.ended"


class Interrupted(PgreactError):
    """A signal asked the demo to stop."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One event of one process; ``at`` is the event's own timestamp, in seconds since 1970."""

    at: float
    source: str  # the process
    name: str
    keys: Mapping[str, Any]


class Journal:
    """A collection of events from all processes; each wait of the demo waits here, and can be interrupted."""

    def __init__(self, limit: int | None = None) -> None:
        """Begin without entries.

        Args:
            limit: Number of entries to keep: the last ones; ``None``: all.
        """
        self._entries: collections.deque[Entry] = collections.deque(maxlen=limit)
        self._added = threading.Condition()
        self._interrupted = ""

    def add(self, entry: Entry) -> None:
        with self._added:
            self._entries.append(entry)
            self._added.notify_all()

    def interrupt(self, reason: str) -> None:
        """Raise :class:`Interrupted` in the current or next wait; safe in a signal handler."""
        self._interrupted = reason

    def find(self, name: str, source: str | None = None, after: float = 0.0) -> list[Entry]:
        """Return the events of this name so far, by time; ``source`` and ``after`` limit them."""
        with self._added:
            found = [
                entry
                for entry in self._entries
                if entry.name == name and entry.at >= after and source in (None, entry.source)
            ]
        return sorted(found, key=lambda entry: entry.at)

    def warnings(self, after: float) -> list[Entry]:
        """Return warnings and errors since a time, in seconds since 1970."""
        with self._added:
            return [e for e in self._entries if e.at >= after and e.keys.get("level") in {"warning", "error"}]

    def wait_for(self, name: str, source: str, after: float = 0.0, deadline: float = 30.0) -> Entry:
        """Wait for an event of a process and return the first one.

        Raises:
            PgreactError: The process ended, or the event did not come in time.
            Interrupted: A signal asked to stop.
        """
        found: list[Entry] = []

        def arrived() -> bool:
            ended = self.find(ENDED, source)  # read before the events, so that none of them is missed
            found[:] = self.find(name, source, after)
            if ended and not found:
                raise PgreactError(f"{source} ended:\n{ended[0].keys['output']}")
            return bool(found)

        if not self.until(arrived, deadline):
            raise PgreactError(f"{source}: no {name} in {format_duration(deadline)}")
        return found[0]

    def until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition holds, checked at each new event and every 50 ms; return whether it does.

        Raises:
            Interrupted: A signal asked to stop.
        """
        end = time.monotonic() + deadline
        while not condition():
            if self._interrupted:
                raise Interrupted(self._interrupted)
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._added:
                self._added.wait(min(left, 0.05))
        return True

    def sleep(self, seconds: float) -> None:
        """Wait for a time.

        Raises:
            Interrupted: A signal asked to stop.
        """
        self.until(lambda: False, seconds)
