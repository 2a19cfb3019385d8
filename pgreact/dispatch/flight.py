"""The flight of one route, as a pure state machine: what is owed, and from when it may be published.

There is no I/O and no clock here. The shell around it (``dispatcher``) reports what happened and when, then
asks :func:`due` what to do next. With ``single_flight = "run"`` a flight goes on after the publish, until its
run is over or known not to come; ``tests/model/flight.py`` explores that protocol.
"""

import dataclasses
import math
from typing import Literal

Outcome = Literal["done", "failed", "lost", "expired", "dropped"]

# A worker tells the end in the commit that frees its lock; its word may reach us after we looked.
LOOKS_TO_BE_SURE = 2


@dataclasses.dataclass(frozen=True)
class Load:
    """The signals that one dispatch answers."""

    signals: int
    since: float


@dataclasses.dataclass(frozen=True)
class Airborne:
    """A message that the broker has, or is about to have, and whose run is not over."""

    task_id: str
    departed: float
    expires: float = math.inf  # from then on no worker begins it
    started: bool = False
    over: bool = False  # its end was told before the broker confirmed it
    missed: int = 0  # looks in a row that found nobody who runs or waits


@dataclasses.dataclass(frozen=True)
class Flight:
    """The state of one route; all times are readings of one monotonic clock, in seconds."""

    owed: Load | None = None  # dirty: signals that no publish has begun to answer
    carried: Load | None = None  # the signals of the publish in hand
    airborne: Airborne | None = None
    departed: float = -math.inf  # when the last publish began
    failures: int = 0  # publishes that failed since the last that did not
    retry_at: float = -math.inf


def signalled(flight: Flight, now: float, signals: int = 1) -> Flight:
    """Something changed for the route: its next publish must begin after this moment."""
    if flight.owed is None:
        return dataclasses.replace(flight, owed=Load(signals, now))
    return dataclasses.replace(flight, owed=Load(flight.owed.signals + signals, flight.owed.since))


def due(flight: Flight, window: float) -> float | None:
    """Return when the next publish may begin, or ``None`` while none is owed or a flight is under way."""
    if flight.owed is None or flight.carried is not None or flight.airborne is not None:
        return None
    return max(flight.owed.since, flight.departed + window, flight.retry_at)


def begun(flight: Flight, now: float, task_id: str, expires_after: float = math.inf) -> Flight:
    """A publish begins. Its signals are no longer owed: what arrives from now on needs another one."""
    assert flight.owed is not None, "nothing is owed"
    assert flight.carried is None, "a publish is in hand"
    assert flight.airborne is None, "a flight is under way"
    airborne = Airborne(task_id, now, now + expires_after)
    return dataclasses.replace(flight, owed=None, carried=flight.owed, airborne=airborne, departed=now)


def published(flight: Flight, *, follow: bool) -> Flight:
    """The broker has the message.

    Args:
        flight: The state so far.
        follow: The flight lasts as long as the run; otherwise it ends here.
    """
    assert flight.carried is not None, "no publish is in hand"
    assert flight.airborne is not None, "no publish is in hand"
    goes_on = follow and not flight.airborne.over
    return dataclasses.replace(
        flight, carried=None, airborne=flight.airborne if goes_on else None, failures=0, retry_at=-math.inf
    )


def failed(flight: Flight, now: float, delay: float) -> Flight:
    """The broker does not have the message, or we cannot know: its signals are owed again."""
    assert flight.carried is not None, "no publish is in hand"
    carried, owed = flight.carried, flight.owed
    signals = carried.signals + (owed.signals if owed else 0)
    return dataclasses.replace(
        flight,
        owed=Load(signals, carried.since),
        carried=None,
        airborne=None,
        failures=flight.failures + 1,
        retry_at=now + delay,
    )


def started(flight: Flight, task_id: str) -> Flight:
    """A worker says that it begins to run this message; others' words do not concern us."""
    if flight.airborne is None or flight.airborne.task_id != task_id:
        return flight
    return dataclasses.replace(flight, airborne=dataclasses.replace(flight.airborne, started=True))


def ended(flight: Flight, task_id: str) -> Flight:
    """A worker says that this message's run is over."""
    if flight.airborne is None or flight.airborne.task_id != task_id:
        return flight
    if flight.carried is not None:
        return dataclasses.replace(flight, airborne=dataclasses.replace(flight.airborne, over=True))
    return dataclasses.replace(flight, airborne=None)


def dropped(flight: Flight, task_id: str, now: float, delay: float) -> Flight:
    """A worker dropped this message because another waits already.

    Should the one that waits die, nobody has run after our signals: so they stay owed, for a little later.
    """
    if flight.airborne is None or flight.airborne.task_id != task_id:
        return flight
    over = ended(flight, task_id)
    return dataclasses.replace(signalled(over, now), retry_at=now + delay)


def looked(flight: Flight, now: float, *, held: bool) -> tuple[Flight, Outcome | None]:
    """The route's locks were read: does anybody run, or wait to?

    Returns:
        The new state, and how the flight ended if it did so without a word: then its signals are owed again.
    """
    airborne = flight.airborne
    if airborne is None or flight.carried is not None:
        return flight, None
    if held or not (airborne.started or now >= airborne.expires):
        return dataclasses.replace(flight, airborne=dataclasses.replace(airborne, missed=0)), None
    if airborne.missed + 1 < LOOKS_TO_BE_SURE:
        return dataclasses.replace(
            flight, airborne=dataclasses.replace(airborne, missed=airborne.missed + 1)
        ), None
    over = dataclasses.replace(flight, airborne=None)
    return signalled(over, now), "lost" if airborne.started else "expired"
