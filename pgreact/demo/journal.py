"""What the processes of the demo tell, in one place."""

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgreact.errors import PgreactError

ENDED = "process.ended"


class Interrupted(PgreactError):
    """Somebody asked the demo to stop."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One event of one process; ``at`` is seconds since 1970, from the event's own timestamp."""

    at: float
    who: str
    name: str
    keys: Mapping[str, Any]


class Journal:
    """Collects events from all processes; everything that waits, waits here and can be interrupted."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._news = threading.Condition()
        self._interrupted = ""

    def add(self, entry: Entry) -> None:
        """Take an event."""
        with self._news:
            self._entries.append(entry)
            self._news.notify_all()

    def interrupt(self, reason: str) -> None:
        """Make every wait end in :class:`Interrupted`, this one or the next; safe in a signal handler."""
        self._interrupted = reason

    def find(self, name: str, who: str | None = None, after: float = 0.0) -> list[Entry]:
        """Return the events of that name so far, in order of time."""
        with self._news:
            found = [
                entry
                for entry in self._entries
                if entry.name == name and entry.at >= after and who in (None, entry.who)
            ]
        return sorted(found, key=lambda entry: entry.at)

    def troubles(self, after: float) -> list[Entry]:
        """Return warnings and errors."""
        with self._news:
            return [e for e in self._entries if e.at >= after and e.keys.get("level") in {"warning", "error"}]

    def wait_for(self, name: str, who: str, after: float = 0.0, deadline: float = 30.0) -> Entry:
        """Wait for an event of a process, and return the first such.

        Raises:
            PgreactError: The process ended, or the event did not come in time.
            Interrupted: Somebody asked to stop.
        """
        found: list[Entry] = []

        def came() -> bool:
            ended = self.find(ENDED, who)  # before the look at what it told until then
            found[:] = self.find(name, who, after)
            if ended and not found:
                raise PgreactError(f"{who} ended:\n{ended[0].keys['last_words']}")
            return bool(found)

        if not self.until(came, deadline):
            raise PgreactError(f"{who}: no {name} in {deadline:g} s")
        return found[0]

    def until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until something is true, which is looked at whenever there is news; return whether it is.

        Raises:
            Interrupted: Somebody asked to stop.
        """
        end = time.monotonic() + deadline
        while not condition():
            if self._interrupted:
                raise Interrupted(self._interrupted)
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._news:
                self._news.wait(min(left, 0.05))
        return True

    def sleep(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Interrupted: Somebody asked to stop.
        """
        self.until(lambda: False, seconds)
