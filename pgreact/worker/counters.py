"""Counters of what a worker did, exact over all its processes and threads.

They lie in memory that a worker's main process shares with the children of a prefork pool: each process adds
to a slot of its own, so no process waits for another. A child that replaces a dead one adds to the same slot.
The leader asks for the sums, by :mod:`pgreact.worker.report`, and exports them as ``pgreact_worker_*_total``.
"""

import mmap
import os
import threading

from billiard.process import current_process

# of runs that ended, by what followed
OUTCOMES = (
    "done",
    "failed",
    "lost",
    "expired",
    "revoked",
    "rejected",
    "invalid",
    "snoozed",
    "postponed",
)
NAMES = (
    "started",  # attempts taken
    *(f"settled_{outcome}" for outcome in OUTCOMES),
    "messages_dropped",  # duplicates, and messages of jobs that expired or were cancelled
    "leases_renewed",
    "settlements_retried",  # a settlement could not be sent, and is tried again
    "flights_run",
    "flights_dropped",  # one ran and one waited already
)
_SLOTS = 1024  # the main process and its children; later children share slots
_PLACES = {name: place for place, name in enumerate(NAMES)}


class Counters:
    """The counters of one worker."""

    def __init__(self) -> None:
        """Start at zero, in memory that later forks share."""
        # aligned words, which the main process reads whole while a child writes
        self._words = memoryview(mmap.mmap(-1, _SLOTS * len(NAMES) * 8)).cast("Q")
        self._slot: int | None = None
        self._lock = threading.RLock()  # signal handlers count, too

    def add(self, name: str, number: int = 1) -> None:
        """Add to a counter.

        Args:
            name: One of :data:`NAMES`.
            number: How many.
        """
        with self._lock:
            if self._slot is None:
                self._slot = _own_slot()
            self._words[self._slot + _PLACES[name]] += number

    def totals(self) -> dict[str, int]:
        """Return the sums over all processes, by name."""
        return {name: sum(self._words[place :: len(NAMES)]) for name, place in _PLACES.items()}

    def after_fork(self) -> None:
        """Count in the slot of this new process, whatever its parent did at the fork."""
        self._slot = None
        self._lock = threading.RLock()


def _own_slot() -> int:
    """Return where this process's slot begins: the first is the main process's."""
    index = getattr(current_process(), "index", None)  # of a child in its pool
    return (0 if index is None else 1 + index % (_SLOTS - 1)) * len(NAMES)


_counters: Counters | None = None


def share() -> None:
    """Make the counters: before the worker forks, so that all its processes have the same."""
    global _counters  # noqa: PLW0603 - one worker, one set
    if _counters is None:
        _counters = Counters()
        os.register_at_fork(after_in_child=_counters.after_fork)


def add(name: str, number: int = 1) -> None:
    """Add to a counter of this worker; see :meth:`Counters.add`. Do nothing without :func:`share`."""
    if _counters is not None:
        _counters.add(name, number)


def totals() -> dict[str, int]:
    """Return what this worker counted since its start, by name; empty without :func:`share`."""
    return {} if _counters is None else _counters.totals()
