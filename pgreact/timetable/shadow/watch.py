"""Listen to Celery's events and compare them with the timetable, until Ctrl-C."""

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from celery import Celery

from pgreact.errors import PgreactError
from pgreact.timetable.shadow.comparison import Comparison, Difference
from pgreact.timetable.shadow.events import Events
from pgreact.timetable.shadow.expected import expected

LOOK = 1.0  # seconds between two checks for missed occurrences
PAUSE = 2.0  # seconds before a lost broker is tried again


class Watch:
    """Watches the broker's events.

    Attributes:
        comparison: Its results.
        received: How many messages it received, of any process.
    """

    def __init__(
        self,
        app: Celery,
        schedules: Sequence[Mapping[str, Any]],
        tolerance: datetime.timedelta,
        notice: Callable[[str], None],
    ) -> None:
        """Connect to nothing yet.

        Args:
            app: Its broker has the events.
            schedules: Columns, as ``importers.entries.row`` returns them.
            tolerance: As for ``Comparison``.
            notice: Called with a line when it listens, and when the broker goes away or comes back.
        """
        now = _now()
        self.comparison = Comparison([expected(columns, now) for columns in schedules], tolerance, now)
        self.received = 0
        self._count = len(schedules) - len(self.comparison.broken)
        self._events = Events(app)
        self._notice = notice

    def run(self, seconds: float | None) -> Iterator[Difference]:
        """Yield each difference as soon as it is known.

        Args:
            seconds: How long to run; ``None``: until Ctrl-C.

        Raises:
            PgreactError: The first connection to the broker failed.
        """
        end = None if seconds is None else time.monotonic() + seconds
        away, listening, begun = _now(), False, False
        try:
            while end is None or time.monotonic() < end:
                try:
                    with self._events.listening() as connection:
                        self.comparison.blind(away, _now())
                        self._notice("the broker is back" if begun else f"watching {self._count} schedules")
                        listening = begun = True
                        while end is None or time.monotonic() < end:
                            yield from self._look(connection)
                except self._events.errors as error:
                    if not begun:
                        raise PgreactError(f"the broker cannot be reached: {error}") from error
                    if listening:
                        away, listening = _now(), False
                        self._notice(f"the broker is away: {error}; what is due meanwhile is not compared")
                    time.sleep(PAUSE)
        except KeyboardInterrupt:
            pass
        yield from self.comparison.finish(_now())

    def _look(self, connection: Any) -> Iterator[Difference]:
        for sent in self._events.receive(connection, LOOK):
            self.received += 1
            yield from self.comparison.sent(sent)
        yield from self.comparison.look(_now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
