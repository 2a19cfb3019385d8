"""What fails at the moment: retried with growing pauses, logged once, and logged again when it is over."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import PgreactError
from pgreact.postgres.errors import Meaning, meaning, pause, remedy, said, storable
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Report:
    """What cannot be done at the moment, for ``pgreact status``."""

    subject: str
    error: str
    since: float  # by the monotonic clock


class Trouble:
    """The failures in a row of one statement, or of one row: logged once, and again when they are over."""

    def __init__(
        self, subject: str, clock: Clock, changed: Callable[["Trouble"], None] = lambda _: None
    ) -> None:
        """There is no trouble yet.

        Args:
            subject: What fails, like ``claim`` or ``schedule nightly``.
            clock: Measures, and brings chance into the pauses.
            changed: Is called when the trouble begins, when its kind changes, and when it is over.
        """
        self.subject = subject
        self.failures = 0
        self.report: Report | None = None
        self._clock = clock
        self._changed = changed
        self._kinds: set[object] = set()

    def failed(self, error: Exception) -> float:
        """Take note of a failure.

        Returns:
            The seconds until the next try: more, the longer it lasts.
        """
        self.failures += 1
        what = meaning(error)
        wait = pause(self._clock, what, self.failures)
        kind = (what, getattr(error, "sqlstate", None) or type(error))
        if kind not in self._kinds:
            self._kinds.add(kind)
            text = said(error) + remedy(error)
            since = self.report.since if self.report else self._clock.monotonic()
            self.report = Report(self.subject, text, since)
            logs.emit(
                logs.StatementFailed(
                    statement=self.subject, error=text, kind=what.name.lower(), retry_in_s=round(wait, 3)
                )
            )
            self._changed(self)
        return wait

    def over(self) -> None:
        """Take note that it worked, or that what failed is gone."""
        if self.report is None:
            return
        took = round(self._clock.monotonic() - self.report.since, 3)
        logs.emit(logs.StatementRecovered(statement=self.subject, failures=self.failures, after_s=took))
        self.failures, self.report = 0, None
        self._kinds.clear()
        self._changed(self)


class Troubles:
    """All that a process cannot do at the moment, by subject."""

    def __init__(self, clock: Clock) -> None:
        """There are none yet."""
        self.changed = asyncio.Event()
        self._clock = clock
        self._known: dict[str, Trouble] = {}

    def __getitem__(self, subject: str) -> Trouble:
        """Return the trouble with a subject, which need not be one at the moment."""
        known = self._known.get(subject)
        if known is None:
            known = self._known[subject] = Trouble(subject, self._clock, self._note)
        return known

    def reports(self) -> list[Report]:
        """Return what cannot be done at the moment."""
        return [trouble.report for trouble in self._known.values() if trouble.report is not None]

    def forget(self, subject: str) -> None:
        """Drop a subject that there is no longer; its trouble is over."""
        if trouble := self._known.pop(subject, None):
            trouble.over()

    def note(self, subject: str, error: str | None) -> None:
        """Report something that is no failure, and logged elsewhere; ``None``: it is over."""
        trouble = self[subject]
        trouble.report = Report(subject, error, self._clock.monotonic()) if error is not None else None
        self.changed.set()

    def described(self) -> str:
        """Return the reports as JSON, with the seconds each has lasted."""
        now = self._clock.monotonic()
        return json.dumps(
            [
                {
                    "subject": storable(report.subject),
                    "error": storable(report.error),
                    "for_s": now - report.since,
                }
                for report in self.reports()
            ]
        )

    def _note(self, _trouble: Trouble) -> None:
        self.changed.set()


async def store(session: Session, source: str, troubles: Troubles) -> None:
    """Write what fails at the moment into ``pgreact.trouble``.

    Args:
        session: Runs the statement.
        source: What it fails in: ``listen`` or ``beat``. What was written of the same source is replaced.
        troubles: What fails.

    Raises:
        SessionLost: The session is gone.
        Exception: The server refused.
    """
    await session.fetch(query("write_trouble"), source, troubles.described())


async def persist(
    trouble: Trouble, attempt: Callable[[], Awaitable[T]], *, give_up_if_refused: bool = False
) -> T:
    """Try until it works.

    Args:
        trouble: Of what is tried.
        attempt: Does it.
        give_up_if_refused: Do not try again what is refused for want of a right or an object.

    Raises:
        SessionLost: The session is gone or in doubt: another try needs a new one.
        PgreactError: It was refused, and is not tried again; or what the attempt raises of the kind, which
            is no failure of a statement.
    """
    while True:
        try:
            result = await attempt()
        except PgreactError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this statement's alone
            if give_up_if_refused and meaning(error) is Meaning.REFUSED:
                raise PgreactError(f"{trouble.subject}: {said(error)}{remedy(error)}") from None
            await asyncio.sleep(trouble.failed(error))
        else:
            trouble.over()
            return result
