"""What a worker cannot do at the moment: retried with growing pauses, logged once, and when it is over."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pgreact.clock import Clock
from pgreact.errors import NotGuarded, PgreactError
from pgreact.postgres.errors import Meaning, pause, said
from pgreact.worker.session import meant

_log = logging.getLogger("pgreact.worker")
_CLOCK = Clock()
_PAUSE = 1.0  # seconds between two tries of something that a message waits for, at most
T = TypeVar("T")


class Trouble:
    """The failures in a row of one statement: each kind is logged once, and the end of all of them."""

    def __init__(self, begins: str, ends: str, ending: str = "%d failures in %.1f s are over") -> None:
        """There is no trouble yet.

        Args:
            begins: The log's name for a failure, like ``job.unrenewed``.
            ends: And for the end of them, like ``job.renewed``.
            ending: What is said at the end: the number of failures, and the seconds since the first.
        """
        self.failures = 0
        self._begins, self._ends, self._ending = begins, ends, ending
        self._since = 0.0
        self._kinds: set[object] = set()

    def failed(self, error: BaseException, about: str) -> float:
        """Take note of a failure.

        Args:
            error: What happened.
            about: What could not be done.

        Returns:
            The seconds until the next try: more, the longer it lasts.
        """
        what = meant(error)
        cause = error.__cause__ if isinstance(error, NotGuarded) else error
        text = str(error) if isinstance(error, PgreactError) else said(error)
        self.noted((what, getattr(cause, "sqlstate", None) or type(cause)), f"{about}: {text}")
        return pause(_CLOCK, what, self.failures)

    def noted(self, kind: object, text: str) -> None:
        """Take note of a failure of a kind."""
        if not self.failures:
            self._since = time.monotonic()
        self.failures += 1
        if kind in self._kinds:
            _log.debug("%s: %s", self._begins, text)
        else:
            self._kinds.add(kind)
            _log.warning("%s: %s", self._begins, text)

    def over(self, about: str = "") -> None:
        """Take note that it works."""
        if not self.failures:
            return
        ending = self._ending % (self.failures, time.monotonic() - self._since)
        _log.info("%s: %s", self._ends, f"{about}: {ending}" if about else ending)
        self.failures = 0
        self._kinds.clear()


def patiently(act: Callable[[], T], patience: float) -> T:
    """Do something that a message waits for; again for a while, as long as its errors may pass.

    Args:
        act: Runs statements.
        patience: Seconds until the last try.

    Returns:
        What it returned.

    Raises:
        NotGuarded: It did not work in that time, or cannot.
    """
    until = time.monotonic() + patience
    failures = 0
    while True:
        try:
            return act()
        except NotGuarded as error:
            failures += 1
            what = meant(error)
            wait = min(_PAUSE, pause(_CLOCK, what, failures))
            if what not in {Meaning.LOST, Meaning.PASSING} or time.monotonic() + wait > until:
                raise
        time.sleep(wait)
