"""The flight of one route, as a pure state machine: what is owed, and from when it may be published.

There is no I/O and no clock here. The shell around it (``dispatcher``) reports what happened and when, then
asks :func:`due` what to do next.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Load:
    """The signals that one dispatch answers."""

    signals: int
    since: float


@dataclasses.dataclass(frozen=True)
class Flight:
    """The state of one route; all times are readings of one monotonic clock, in seconds."""

    owed: Load | None = None  # dirty: signals that no publish has begun to answer
    carried: Load | None = None  # the signals of the publish in hand
    departed: float = -math.inf  # when the last publish began
    failures: int = 0  # publishes that failed since the last that did not
    retry_at: float = -math.inf


def signalled(flight: Flight, now: float, signals: int = 1) -> Flight:
    """Something changed for the route: its next publish must begin after this moment."""
    if flight.owed is None:
        return dataclasses.replace(flight, owed=Load(signals, now))
    return dataclasses.replace(flight, owed=Load(flight.owed.signals + signals, flight.owed.since))


def due(flight: Flight, window: float) -> float | None:
    """Return when the next publish may begin, or ``None`` while none is owed or one is in hand."""
    if flight.owed is None or flight.carried is not None:
        return None
    return max(flight.owed.since, flight.departed + window, flight.retry_at)


def begun(flight: Flight, now: float) -> Flight:
    """A publish begins. Its signals are no longer owed: what arrives from now on needs another one."""
    assert flight.owed is not None, "nothing is owed"
    assert flight.carried is None, "a publish is in hand"
    return dataclasses.replace(flight, owed=None, carried=flight.owed, departed=now)


def published(flight: Flight) -> Flight:
    """The broker has the message."""
    assert flight.carried is not None, "no publish is in hand"
    return dataclasses.replace(flight, carried=None, failures=0, retry_at=-math.inf)


def failed(flight: Flight, now: float, delay: float) -> Flight:
    """The broker does not have the message, or we cannot know: its signals are owed again."""
    assert flight.carried is not None, "no publish is in hand"
    carried, owed = flight.carried, flight.owed
    signals = carried.signals + (owed.signals if owed else 0)
    return dataclasses.replace(
        flight,
        owed=Load(signals, carried.since),
        carried=None,
        failures=flight.failures + 1,
        retry_at=now + delay,
    )
