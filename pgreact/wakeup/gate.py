"""The gate of one route: a pure state machine that decides whether writers notify or the leader polls.

S is the route's sequence. At :data:`CLOSED` or above, writers skip their NOTIFY; below, they notify.

==========  ======================================================  =========================================
mode        writers                                                 the leader
==========  ======================================================  =========================================
open        notify                                                  does nothing
draining    notify, but some began before S was set to OPEN         lists the holders of S until those have
                                                                    ended
polling     skip their NOTIFY                                       reads S, then lists its holders
==========  ======================================================  =========================================

=================  ===================  ======================================================================
event              in mode              leads to
=================  ===================  ======================================================================
:func:`opened`     any                  draining if S has holders, else open
:func:`closed`     open, draining       polling
:func:`polled`     polling              polling
:func:`drained`    draining             draining until the last of the listed holders is gone, then open
=================  ===================  ======================================================================

The ``gatekeeper`` reads and sets S, and reports the events. The order of its reads is the protocol:
``tests/model/gate.py`` explores it, and ``docs/protocols.md`` explains it.
"""

import dataclasses
from typing import Literal

Mode = Literal["open", "draining", "polling"]

OPEN = 1
CLOSED = 2**62  # writers that find S here or above skip their NOTIFY: sql/functions/attach.sql


@dataclasses.dataclass(frozen=True)
class Gate:
    """The state of one gate; times are readings of one monotonic clock, in seconds."""

    mode: Mode = "open"
    holders: frozenset[str] = frozenset()  # transactions that may have skipped their NOTIFY
    sequence_value: int | None = (
        None  # S when last read or set; None: unknown, so the next reading is activity
    )
    since: float = 0.0  # when the mode began
    active_at: float = 0.0  # when activity was last found


@dataclasses.dataclass(frozen=True)
class Reading:
    """The value of S, and the transactions that held its lock after that."""

    sequence_value: int
    holders: frozenset[str]
    undisturbed: bool = True  # if S was set between the two: no transaction that wrote ended meanwhile


def opened(gate: Gate, holders: frozenset[str], now: float) -> Gate:
    """S was set to OPEN, and then its holders were listed: these are drained."""
    mode: Mode = "draining" if holders else "open"
    since = gate.since if mode == gate.mode else now
    return Gate(mode, holders, None, since, now)


def closed(gate: Gate, sequence_value: int | None, now: float) -> Gate:
    """S was set to CLOSED, or is about to be: polling begins.

    Args:
        gate: The state so far, whose holders are still followed.
        sequence_value: The value that S was set to; ``None`` if a writer may have skipped before that.
        now: The moment.
    """
    assert gate.mode != "polling", "the gate is closed already"
    return Gate("polling", gate.holders, sequence_value, now, now)


def activity(gate: Gate, reading: Reading) -> bool:
    """Return whether a writer may have committed since the last reading."""
    return (
        reading.sequence_value != gate.sequence_value
        or bool(gate.holders - reading.holders)
        or not reading.undisturbed
    )


def polled(gate: Gate, reading: Reading, now: float) -> tuple[Gate, bool]:
    """S was read, and then its holders were listed.

    Returns:
        The new state, and whether there was activity.
    """
    assert gate.mode == "polling", "only a closed gate is polled"
    active = activity(gate, reading)
    return dataclasses.replace(
        gate,
        sequence_value=reading.sequence_value,
        holders=reading.holders,
        active_at=now if active else gate.active_at,
    ), active


def drained(gate: Gate, holders: frozenset[str], now: float) -> tuple[Gate, bool]:
    """The holders were listed while draining: one that is gone may have committed without a NOTIFY.

    Returns:
        The new state, and whether a holder is gone. Holders that came since found the gate open.
    """
    assert gate.mode == "draining", "nothing is drained"
    left = gate.holders & holders
    gone = left != gate.holders
    if left:
        return dataclasses.replace(gate, holders=left, active_at=now if gone else gate.active_at), gone
    return Gate("open", frozenset(), None, now, now), gone


class Meter:
    """Measures the rate of a route's notifications, to close its gate when polling is cheaper."""

    PERIOD = 0.25  # seconds

    def __init__(self) -> None:
        self._began = 0.0
        self._count = 0

    def exceeds(self, rate: float, now: float) -> bool:
        """Count one notification; return whether this period has had more than ``rate`` a second."""
        if now - self._began > self.PERIOD:
            self._began, self._count = now, 0
        self._count += 1
        return self._count > rate * self.PERIOD

    def reset(self) -> None:
        """Forget the notifications counted so far."""
        self._count = 0
