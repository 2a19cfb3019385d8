"""The entries: half intervals, half crontabs, the same on each side."""

import dataclasses
from datetime import UTC, datetime, timedelta

HOUR = 3600  # seconds


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry, which ran before.

    Attributes:
        name: Unique.
        last_run: When it ran.
        every: Seconds; 0: it is a crontab.
        minute: The crontab: at this minute of every hour.
        number: The argument of its task, reported when it is sent; 0: it is only counted.
    """

    name: str
    last_run: datetime
    every: float = 0
    minute: int = 0
    number: int = 0

    @property
    def args(self) -> list[int]:
        """Arguments of the task."""
        return [self.number] if self.number else []


def idle(count: int) -> list[Entry]:
    """Return entries that are not due before ten minutes have passed."""
    now = datetime.now(UTC)
    return [
        Entry(f"idle {index}", now - timedelta(minutes=index % 30), every=HOUR)
        if index % 2
        else Entry(f"idle {index}", now, minute=(now.minute + 15 + index % 40) % 60)
        for index in range(count)
    ]


def due(count: int) -> list[Entry]:
    """Return entries that were all due a while ago, and not again before ten minutes have passed."""
    now = datetime.now(UTC)
    last_run = now - timedelta(hours=3)
    return [
        Entry(f"due {index}", last_run, every=HOUR)
        if index % 2
        else Entry(f"due {index}", last_run, minute=(now.minute + 15 + index % 40) % 60)
        for index in range(count)
    ]


def overdue(number: int) -> Entry:
    """Return an entry with a number that was due a while ago."""
    return Entry(f"watched {number}", datetime.now(UTC) - timedelta(hours=3), every=HOUR, number=number)


def waiting(number: int) -> Entry:
    """Return an entry with a number that an edit will make due."""
    return Entry(f"watched {number}", datetime.now(UTC), every=HOUR, number=number)


def each_second(number: int) -> Entry:
    """Return an entry with a number that is due each second."""
    return Entry(f"watched {number}", datetime.now(UTC), every=1, number=number)


def ten_a_second(number: int) -> Entry:
    """Return an entry with a number that is due ten times a second."""
    return Entry(f"watched {number}", datetime.now(UTC), every=0.1, number=number)
