"""Troubles: failures that are being retried with growing pauses.

A trouble begins with the first failure, is logged once for each kind of error (``statement.failed``), shown
by ``pgreact status`` while it lasts, and logged when it ends (``statement.recovered``).
"""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import PgreactError
from pgreact.postgres.errors import ErrorKind, ascii_escaped, classify, describe, remedy, retry_delay
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Report:
    """A trouble that lasts, for ``pgreact status``."""

    subject: str
    error: str
    since: float  # monotonic seconds


class Trouble:
    """The failures in a row of one statement, or of one row."""

    def __init__(
        self, subject: str, clock: Clock, changed: Callable[["Trouble"], None] = lambda _: None
    ) -> None:
        """Begin without a failure.

        Args:
            subject: The statement or the row, like ``claim`` or ``schedule nightly``.
            clock: Measures durations, and adds jitter to the pauses.
            changed: Called when the trouble begins, when a new kind of error occurs, and when it ends.
        """
        self.subject = subject
        self.failures = 0
        self.report: Report | None = None
        self._clock = clock
        self._changed = changed
        self._kinds: set[object] = set()

    def failed(self, error: Exception) -> float:
        """Record a failure.

        Returns:
            The seconds until the next attempt, which grow with each failure.
        """
        self.failures += 1
        what = classify(error)
        wait = retry_delay(self._clock, what, self.failures)
        kind = (what, getattr(error, "sqlstate", None) or type(error))
        if kind not in self._kinds:
            self._kinds.add(kind)
            text = describe(error) + remedy(error)
            since = self.report.since if self.report else self._clock.monotonic()
            self.report = Report(self.subject, text, since)
            logs.emit(
                logs.StatementFailed(
                    statement=self.subject, error=text, kind=what.name.lower(), retry_in_s=round(wait, 3)
                )
            )
            self._changed(self)
        return wait

    def recovered(self) -> None:
        """Record that the statement succeeded, or that its row is gone."""
        if self.report is None:
            return
        took = round(self._clock.monotonic() - self.report.since, 3)
        logs.emit(logs.StatementRecovered(statement=self.subject, failures=self.failures, after_s=took))
        self.failures, self.report = 0, None
        self._kinds.clear()
        self._changed(self)


class Troubles:
    """The troubles of a process, by subject."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a trouble."""
        self.changed = asyncio.Event()
        self._clock = clock
        self._known: dict[str, Trouble] = {}

    def __getitem__(self, subject: str) -> Trouble:
        """Return the trouble of a subject, which may have no failure."""
        known = self._known.get(subject)
        if known is None:
            known = self._known[subject] = Trouble(subject, self._clock, self._note)
        return known

    def reports(self) -> list[Report]:
        """Return the troubles that last."""
        return [trouble.report for trouble in self._known.values() if trouble.report is not None]

    def forget(self, subject: str) -> None:
        """End the trouble of a subject that no longer exists."""
        if trouble := self._known.pop(subject, None):
            trouble.recovered()

    def report(self, subject: str, error: str | None) -> None:
        """Report a condition that another event logs; ``None`` ends the report."""
        trouble = self[subject]
        trouble.report = Report(subject, error, self._clock.monotonic()) if error is not None else None
        self.changed.set()

    def as_json(self) -> str:
        """Return the reports as JSON, each with the seconds that it has lasted."""
        now = self._clock.monotonic()
        return json.dumps(
            [
                {
                    "subject": ascii_escaped(report.subject),
                    "error": ascii_escaped(report.error),
                    "for_s": now - report.since,
                }
                for report in self.reports()
            ]
        )

    def _note(self, _trouble: Trouble) -> None:
        self.changed.set()


async def write_troubles(session: Session, source: str, troubles: Troubles) -> None:
    """Replace the rows of one source in ``pgreact.trouble``.

    Args:
        session: Runs the statement.
        source: The program: ``listen`` or ``beat``.
        troubles: Its troubles.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused the statement.
    """
    await session.fetch(query("write_trouble"), source, troubles.as_json())


async def retry(
    trouble: Trouble, attempt: Callable[[], Awaitable[T]], *, give_up_if_refused: bool = False
) -> T:
    """Repeat an attempt until it succeeds.

    Args:
        trouble: Records the failures.
        attempt: Runs the statement.
        give_up_if_refused: Raise an error for which a right or an object is missing, instead of retrying.

    Returns:
        What the attempt returns.

    Raises:
        SessionLost: The session is gone or in doubt: the next attempt needs a new one.
        PgreactError: The statement was refused and is not retried, or the attempt raised this itself.
    """
    while True:
        try:
            result = await attempt()
        except PgreactError:
            raise
        except Exception as error:  # noqa: BLE001 - any error belongs to this statement alone
            if give_up_if_refused and classify(error) is ErrorKind.REFUSED:
                raise PgreactError(f"{trouble.subject}: {describe(error)}{remedy(error)}") from None
            await asyncio.sleep(trouble.failed(error))
        else:
            trouble.recovered()
            return result
