"""The flight of one route: a pure state machine of when to publish, without I/O and clock.

======================  =======  ==========  =========  ================================================
state                   pending  publishing  in_flight  meaning
======================  =======  ==========  =========  ================================================
clean                   no       no          no         nothing to do
dirty                   yes      no          no         the next publish is due: :func:`due` tells when
publishing              any      yes         yes        the message is on its way to the broker
in flight               any      no          yes        only ``single_flight = "run"``: the run is not over
======================  =======  ==========  =========  ================================================

=======================  =====================  ============================================================
event                    in state               leads to
=======================  =====================  ============================================================
:func:`signalled`        any                    the same, with signals pending: clean becomes dirty
:func:`publish_began`    dirty                  publishing; no signal is pending
:func:`publish_failed`   publishing             dirty: its signals are pending again
:func:`published`        publishing             in flight if the run is followed and not over; else clean
                                                or dirty
:func:`run_started`      publishing, in flight  the same
:func:`run_ended`        publishing             the same: :func:`published` ends the flight
:func:`run_ended`        in flight              clean or dirty
:func:`message_dropped`  publishing, in flight  as :func:`run_ended`, with a signal pending
:func:`locks_read`       in flight              dirty, if the worker is gone or the message has expired
=======================  =====================  ============================================================

The ``dispatcher`` reports the events. ``tests/model/flight.py`` explores the protocol with the workers, and
``docs/protocols.md`` explains it.
"""

import dataclasses
import math
from typing import Literal

Outcome = Literal["done", "failed", "lost", "expired", "dropped"]

# A worker reports the end in the commit that frees its lock; the report may arrive after the locks are read.
READS_TO_BE_SURE = 2


@dataclasses.dataclass(frozen=True)
class SignalBatch:
    """The signals that one dispatch answers."""

    signals: int
    since: float


@dataclasses.dataclass(frozen=True)
class InFlight:
    """A message that the broker has, or is about to have, and whose run is not over."""

    task_id: str
    began: float  # when its publish began
    expires: float = math.inf  # from then on no worker starts it
    started: bool = False
    ended: bool = False  # a worker reported the end before the broker confirmed the message
    unheld: int = 0  # reads of the locks in a row that found neither a run nor a waiter


@dataclasses.dataclass(frozen=True)
class Flight:
    """The state of one route; all times are readings of one monotonic clock, in seconds."""

    pending: SignalBatch | None = None  # signals that no publish has begun to answer
    publishing: SignalBatch | None = None  # the signals of the publish in hand
    in_flight: InFlight | None = None
    began: float = -math.inf  # when the last publish began
    failures: int = 0  # failed publishes since the last successful one
    retry_at: float = -math.inf


def signalled(flight: Flight, now: float, signals: int = 1) -> Flight:
    """Something changed for the route: its next publish must begin after this moment."""
    if flight.pending is None:
        return dataclasses.replace(flight, pending=SignalBatch(signals, now))
    pending = SignalBatch(flight.pending.signals + signals, flight.pending.since)
    return dataclasses.replace(flight, pending=pending)


def due(flight: Flight, window: float) -> float | None:
    """Return when the next publish may begin; ``None``: no signal is pending, or a flight is under way."""
    if flight.pending is None or flight.publishing is not None or flight.in_flight is not None:
        return None
    return max(flight.pending.since, flight.began + window, flight.retry_at)


def publish_began(flight: Flight, now: float, task_id: str, expires_after: float = math.inf) -> Flight:
    """A publish begins. Its signals are no longer pending: a signal from now on needs another publish."""
    assert flight.pending is not None, "no signal is pending"
    assert flight.publishing is None, "a publish is in hand"
    assert flight.in_flight is None, "a flight is under way"
    in_flight = InFlight(task_id, now, now + expires_after)
    return dataclasses.replace(
        flight, pending=None, publishing=flight.pending, in_flight=in_flight, began=now
    )


def published(flight: Flight, *, follow: bool) -> Flight:
    """The broker has the message.

    Args:
        flight: The state so far.
        follow: The flight lasts as long as the run; otherwise it ends here.
    """
    assert flight.publishing is not None, "no publish is in hand"
    assert flight.in_flight is not None, "no publish is in hand"
    goes_on = follow and not flight.in_flight.ended
    return dataclasses.replace(
        flight,
        publishing=None,
        in_flight=flight.in_flight if goes_on else None,
        failures=0,
        retry_at=-math.inf,
    )


def publish_failed(flight: Flight, now: float, delay: float) -> Flight:
    """The broker does not have the message, or may not have it: its signals are pending again."""
    assert flight.publishing is not None, "no publish is in hand"
    signals = flight.publishing.signals + (flight.pending.signals if flight.pending else 0)
    return dataclasses.replace(
        flight,
        pending=SignalBatch(signals, flight.publishing.since),
        publishing=None,
        in_flight=None,
        failures=flight.failures + 1,
        retry_at=now + delay,
    )


def run_started(flight: Flight, task_id: str) -> Flight:
    """A worker reports that it starts a message; only that of this flight counts."""
    if flight.in_flight is None or flight.in_flight.task_id != task_id:
        return flight
    return dataclasses.replace(flight, in_flight=dataclasses.replace(flight.in_flight, started=True))


def run_ended(flight: Flight, task_id: str) -> Flight:
    """A worker reports that a message's run is over."""
    if flight.in_flight is None or flight.in_flight.task_id != task_id:
        return flight
    if flight.publishing is not None:
        return dataclasses.replace(flight, in_flight=dataclasses.replace(flight.in_flight, ended=True))
    return dataclasses.replace(flight, in_flight=None)


def message_dropped(flight: Flight, task_id: str, now: float, delay: float) -> Flight:
    """A worker dropped a message because another worker waits to run the task already.

    That worker may die before it runs. So the signals stay pending, for a publish after ``delay`` seconds.
    """
    if flight.in_flight is None or flight.in_flight.task_id != task_id:
        return flight
    over = run_ended(flight, task_id)
    return dataclasses.replace(signalled(over, now), retry_at=now + delay)


def locks_read(flight: Flight, now: float, *, held: bool) -> tuple[Flight, Outcome | None]:
    """The route's locks were read.

    Args:
        flight: The state so far.
        now: The moment.
        held: A worker runs the task, or waits to.

    Returns:
        The new state, and the outcome if the flight ended without a report: its signals are pending again.
    """
    in_flight = flight.in_flight
    if in_flight is None or flight.publishing is not None:
        return flight, None
    if held or not (in_flight.started or now >= in_flight.expires):
        return dataclasses.replace(flight, in_flight=dataclasses.replace(in_flight, unheld=0)), None
    unheld = in_flight.unheld + 1
    if unheld < READS_TO_BE_SURE:
        return dataclasses.replace(flight, in_flight=dataclasses.replace(in_flight, unheld=unheld)), None
    over = dataclasses.replace(flight, in_flight=None)
    return signalled(over, now), "lost" if in_flight.started else "expired"
