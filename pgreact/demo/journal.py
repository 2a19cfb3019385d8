"""The events of all processes of the demo, and the waits for them."""

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgreact.errors import PgreactError

ENDED = "process.ended"


class Interrupted(PgreactError):
    """A signal asked the demo to stop."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One event of a process; ``at`` is the event's timestamp in seconds since 1970."""

    at: float
    source: str  # the name of the process
    name: str
    keys: Mapping[str, Any]


class Journal:
    """Collect events from all processes. All waits of the demo are here, so that a signal can end them."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._changed = threading.Condition()
        self._interrupted = ""

    def add(self, entry: Entry) -> None:
        """Add an event, and wake the waits."""
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def interrupt(self, reason: str) -> None:
        """End the current or next wait by :class:`Interrupted`; safe in a signal handler."""
        self._interrupted = reason

    def find(self, name: str, source: str | None = None, after: float = 0.0) -> list[Entry]:
        """Return the events of a name so far, in order of time."""
        with self._changed:
            found = [
                entry
                for entry in self._entries
                if entry.name == name and entry.at >= after and source in (None, entry.source)
            ]
        return sorted(found, key=lambda entry: entry.at)

    def problems(self, after: float) -> list[Entry]:
        """Return the warnings and errors since a time."""
        with self._changed:
            return [e for e in self._entries if e.at >= after and e.keys.get("level") in {"warning", "error"}]

    def wait_for(self, name: str, source: str, after: float = 0.0, deadline: float = 30.0) -> Entry:
        """Wait for an event of a process; return the first one.

        Raises:
            PgreactError: The process ended, or the event did not come in time.
            Interrupted: A signal asked the demo to stop.
        """
        found: list[Entry] = []

        def came() -> bool:
            ended = self.find(ENDED, source)  # first: an event may come before the end
            found[:] = self.find(name, source, after)
            if ended and not found:
                raise PgreactError(f"{source} ended:\n{ended[0].keys['output']}")
            return bool(found)

        if not self.until(came, deadline):
            raise PgreactError(f"{source}: no event {name} in {deadline:g} s")
        return found[0]

    def until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition is true; return whether it is.

        Args:
            condition: Tested at each event, and every 0.05 s.
            deadline: Seconds.

        Raises:
            Interrupted: A signal asked the demo to stop.
        """
        end = time.monotonic() + deadline
        while not condition():
            if self._interrupted:
                raise Interrupted(self._interrupted)
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left, 0.05))
        return True

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds.

        Raises:
            Interrupted: A signal asked the demo to stop.
        """
        self.until(lambda: False, seconds)
