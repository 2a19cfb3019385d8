"""The registry of checks: functions that look at facts and yield findings."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pgreact.doctor.result import Verdict

if TYPE_CHECKING:
    from pgreact.doctor.facts import Facts


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    verdict: Verdict
    text: str
    remedy: str


class CannotSee(Exception):
    """A check cannot look: a right is missing, or what it looks at cannot be reached."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


Examine = Callable[["Facts"], Iterator[Finding]]


@dataclasses.dataclass(frozen=True)
class Check:
    """One check. Its function yields nothing if all is well."""

    id: str
    looked_at: str
    examine: Examine
    offline: bool  # it needs no server
    asks_workers: bool

    @property
    def area(self) -> str:
        """The first part of its id."""
        return self.id.partition(".")[0]


CHECKS: dict[str, Check] = {}


def check(
    check_id: str, looked_at: str, *, offline: bool = False, asks_workers: bool = False
) -> Callable[[Examine], Examine]:
    """Return a decorator that registers a check.

    Args:
        check_id: Its id, which never changes: scripts may name it.
        looked_at: What it looks at, as a noun phrase.
        offline: It needs no server.
        asks_workers: It needs the workers' replies.
    """

    def register(examine: Examine) -> Examine:
        CHECKS[check_id] = Check(check_id, looked_at, examine, offline, asks_workers)
        return examine

    return register


def warn(text: str, remedy: str) -> Finding:
    """Return a finding that needs attention."""
    return Finding(Verdict.WARN, text, remedy)


def unknown(text: str, remedy: str) -> Finding:
    """Return a finding about something that cannot be looked at."""
    return Finding(Verdict.UNKNOWN, text, remedy)


def fail(text: str, remedy: str) -> Finding:
    """Return a finding that keeps work from being done."""
    return Finding(Verdict.FAIL, text, remedy)
