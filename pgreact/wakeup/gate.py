"""The gate of one route, as a pure state machine: do writers notify, or do we poll?

The order of the reads is the protocol: ``tests/model/gate.py`` explores it, ``docs/protocols.md`` explains
it. There is no I/O and no clock here: the shell around it (``gatekeeper``) reads, and reports what it read.
"""

import dataclasses
from typing import Literal

Mode = Literal["open", "draining", "polling"]


@dataclasses.dataclass(frozen=True)
class Gate:
    """The state of one gate; times are readings of one monotonic clock, in seconds."""

    # open: writers notify. draining: they do, but some began while it was closed and have not ended.
    # polling: they need not, so we look.
    mode: Mode = "open"
    holders: frozenset[str] = frozenset()  # transactions that may have skipped their NOTIFY
    skips: int | None = None  # S when last read; None: no reading, so that the next one counts as moved
    since: float = 0.0  # when the mode began
    stirred: float = 0.0  # when a poll last found something


def listed(gate: Gate, holders: frozenset[str], *, foreign: bool, now: float) -> Gate:
    """W's holders were listed after an election or after B was released; a sweep must follow.

    Args:
        gate: The state so far, of which nothing but the time of its mode is kept.
        holders: Transactions that hold W.
        foreign: Somebody else still holds or awaits B: a leader whose session has not ended yet. Writers
            skip their NOTIFY for its sake, so we poll.
        now: The moment.
    """
    mode: Mode = "polling" if foreign else "draining" if holders else "open"
    since = gate.since if mode == gate.mode else now
    return Gate(mode, holders, None, since, now)


def closing(gate: Gate, skips: int, now: float) -> Gate:
    """S was read, and B is asked for from now on: polls begin, whether or not it is granted."""
    assert gate.mode != "polling", "the gate is closed already"
    return Gate("polling", gate.holders, skips, now, now)


def polled(gate: Gate, skips: int, holders: frozenset[str], now: float) -> tuple[Gate, bool]:
    """S was read and then, in a second statement, W's holders.

    Returns:
        The new state, and whether something may have been committed since the last poll.
    """
    assert gate.mode == "polling", "only a closed gate is polled"
    stirred = skips != gate.skips or bool(gate.holders - holders)
    return dataclasses.replace(
        gate, skips=skips, holders=holders, stirred=now if stirred else gate.stirred
    ), stirred


def drained(gate: Gate, holders: frozenset[str], now: float) -> tuple[Gate, bool]:
    """W's holders were listed while draining: who is gone may have committed without a NOTIFY.

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
