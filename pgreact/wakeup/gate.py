"""The gate of one route, as a pure state machine: do writers notify, or do we poll?

The order of the reads is the protocol: ``tests/model/gate.py`` explores it, ``docs/protocols.md`` explains
it. There is no I/O and no clock here: the shell around it (``gatekeeper``) reads, and reports what it read.
"""

import dataclasses
from typing import Literal

Mode = Literal["open", "draining", "polling"]

OPEN = 1
SHUT = 2**62  # writers that find S higher do not notify: sql/functions/attach.sql


@dataclasses.dataclass(frozen=True)
class Gate:
    """The state of one gate; times are readings of one monotonic clock, in seconds."""

    # open: writers notify. draining: they do, but some began while it was closed and have not ended.
    # polling: they need not, so we look.
    mode: Mode = "open"
    holders: frozenset[str] = frozenset()  # transactions that may have skipped their NOTIFY
    height: int | None = None  # S when last read or set; None: unknown, so that the next counts as moved
    since: float = 0.0  # when the mode began
    stirred: float = 0.0  # when a poll last found something


@dataclasses.dataclass(frozen=True)
class Seen:
    """S, and then who held its lock."""

    height: int
    holders: frozenset[str]
    alone: bool = True  # if S was set between the two: nobody who wrote has ended meanwhile


def listed(gate: Gate, holders: frozenset[str], now: float) -> Gate:
    """S was set open, and then its holders were listed: who is among them is drained."""
    mode: Mode = "draining" if holders else "open"
    since = gate.since if mode == gate.mode else now
    return Gate(mode, holders, None, since, now)


def closing(gate: Gate, height: int | None, now: float) -> Gate:
    """S was set shut: polls begin.

    Args:
        gate: The state so far, whose holders are followed on.
        height: What S was set to; ``None`` if somebody may have skipped before that.
        now: The moment.
    """
    assert gate.mode != "polling", "the gate is closed already"
    return Gate("polling", gate.holders, height, now, now)


def stirred(gate: Gate, seen: Seen) -> bool:
    """Return whether something may have been committed since the last poll."""
    return seen.height != gate.height or bool(gate.holders - seen.holders) or not seen.alone


def polled(gate: Gate, seen: Seen, now: float) -> tuple[Gate, bool]:
    """S was read, and then its holders were listed.

    Returns:
        The new state, and whether the poll found something.
    """
    assert gate.mode == "polling", "only a closed gate is polled"
    found = stirred(gate, seen)
    return dataclasses.replace(
        gate, height=seen.height, holders=seen.holders, stirred=now if found else gate.stirred
    ), found


def drained(gate: Gate, holders: frozenset[str], now: float) -> tuple[Gate, bool]:
    """The holders were listed while draining: who is gone may have committed without a NOTIFY.

    Returns:
        The new state, and whether somebody is gone. Who came since has found the gate open.
    """
    assert gate.mode == "draining", "nothing is drained"
    left = gate.holders & holders
    gone = left != gate.holders
    if left:
        return dataclasses.replace(gate, holders=left, stirred=now if gone else gate.stirred), gone
    return Gate("open", frozenset(), None, now, now), gone


class Meter:
    """Tells when the notifications of a route come so fast that polling is cheaper."""

    PERIOD = 0.25  # seconds

    def __init__(self) -> None:
        self._began = 0.0
        self._count = 0

    def busy(self, rate: float, now: float) -> bool:
        """Count one notification; return whether this period has had more than ``rate`` a second."""
        if now - self._began > self.PERIOD:
            self._began, self._count = now, 0
        self._count += 1
        return self._count > rate * self.PERIOD

    def forget(self) -> None:
        """Begin anew."""
        self._count = 0
