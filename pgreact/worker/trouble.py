"""Failures of a worker's statements that may pass: retries with growing pauses, one log line a kind."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pgreact.clock import Clock
from pgreact.errors import NotGuarded, PgreactError
from pgreact.postgres.errors import ErrorKind, describe, retry_delay
from pgreact.quantities import format_duration
from pgreact.worker.session import meant

_log = logging.getLogger("pgreact.worker")
_CLOCK = Clock()
_PAUSE = 1.0  # seconds between two tries of a statement that a message waits for, at most
T = TypeVar("T")


class Trouble:
    """The failures in a row of one statement. Each kind is logged once, and the recovery from all of them."""

    def __init__(self, failure: str, recovery: str, summary: str = "%d failures in %s are over") -> None:
        """Begin without a failure.

        Args:
            failure: The log event of a failure, like ``lease.renewal_failed``.
            recovery: The log event of the recovery, like ``lease.renewed``.
            summary: The text of the recovery: takes the number of failures, and the seconds since the first.
        """
        self.failures = 0
        self._failure, self._recovery, self._summary = failure, recovery, summary
        self._since = 0.0
        self._kinds: set[object] = set()

    def failed(self, error: BaseException, subject: str) -> float:
        """Count a failure, and log it if its kind is new.

        Args:
            error: The failure.
            subject: What could not be done.

        Returns:
            Seconds until the next try, which grow with each failure.
        """
        meaning = meant(error)
        cause = error.__cause__ if isinstance(error, NotGuarded) else error
        text = str(error) if isinstance(error, PgreactError) else describe(error)
        self.report((meaning, getattr(cause, "sqlstate", None) or type(cause)), f"{subject}: {text}")
        return retry_delay(_CLOCK, meaning, self.failures)

    def report(self, kind: object, text: str) -> None:
        """Count a failure of a kind, and log it: a warning if the kind is new, else at level debug."""
        if not self.failures:
            self._since = time.monotonic()
        self.failures += 1
        if kind in self._kinds:
            _log.debug("%s: %s", self._failure, text)
        else:
            self._kinds.add(kind)
            _log.warning("%s: %s", self._failure, text)

    def recovered(self, subject: str = "") -> None:
        """Log the end of the failures, if there were any."""
        if not self.failures:
            return
        lasted = format_duration(round(time.monotonic() - self._since, 1))
        summary = self._summary % (self.failures, lasted)
        _log.info("%s: %s", self._recovery, f"{subject}: {summary}" if subject else summary)
        self.failures = 0
        self._kinds.clear()


def with_retries(act: Callable[[], T], timeout: float) -> T:
    """Do something that a message waits for, and retry errors that may pass.

    Args:
        act: Runs statements.
        timeout: Seconds until the last try.

    Returns:
        What ``act`` returned.

    Raises:
        NotGuarded: An error that does not pass, or one that has not passed in time.
    """
    deadline = time.monotonic() + timeout
    failures = 0
    while True:
        try:
            return act()
        except NotGuarded as error:
            failures += 1
            meaning = meant(error)
            wait = min(_PAUSE, retry_delay(_CLOCK, meaning, failures))
            if meaning not in {ErrorKind.LOST, ErrorKind.TRANSIENT} or time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
