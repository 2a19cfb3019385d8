"""Listens to what is sent, and judges it."""

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from celery import Celery

from pgreact.errors import PgreactError
from pgreact.timetable.shadow.comparison import Difference, Judge
from pgreact.timetable.shadow.events import Events
from pgreact.timetable.shadow.expected import watched

LOOK = 1.0  # seconds between two looks at what is missed
PAUSE = 2.0  # seconds before a lost broker is tried again


class Watch:
    """Runs beside whoever sends.

    Attributes:
        judge: What it found.
        heard: How many messages it heard of, whosoever.
    """

    def __init__(
        self,
        app: Celery,
        schedules: Sequence[Mapping[str, Any]],
        tolerance: datetime.timedelta,
        notice: Callable[[str], None],
    ) -> None:
        """Begin without a connection.

        Args:
            app: On whose broker the events are.
            schedules: Columns, as ``entries.row`` makes them.
            tolerance: As ``Judge`` has it.
            notice: Is told when it listens, and of a broker that is away, and back.
        """
        now = _now()
        self.judge = Judge([watched(columns, now) for columns in schedules], tolerance, now)
        self.heard = 0
        self._count = len(schedules) - len(self.judge.broken)
        self._events = Events(app)
        self._notice = notice

    def run(self, seconds: float | None) -> Iterator[Difference]:
        """Tell of each difference when it is known.

        Args:
            seconds: How long to go on; ``None``: until Ctrl-C.

        Raises:
            PgreactError: The broker cannot be reached to begin with.
        """
        end = None if seconds is None else time.monotonic() + seconds
        away, listening, begun = _now(), False, False
        try:
            while end is None or time.monotonic() < end:
                try:
                    with self._events.listening() as connection:
                        self.judge.blind(away, _now())
                        self._notice("the broker is back" if begun else f"watching {self._count} schedules")
                        listening = begun = True
                        while end is None or time.monotonic() < end:
                            yield from self._look(connection)
                except self._events.errors as error:
                    if not begun:
                        raise PgreactError(f"the broker cannot be reached: {error}") from error
                    if listening:
                        away, listening = _now(), False
                        self._notice(f"the broker is away: {error}; what is due meanwhile is not judged")
                    time.sleep(PAUSE)
        except KeyboardInterrupt:
            pass
        yield from self.judge.finish(_now())

    def _look(self, connection: Any) -> Iterator[Difference]:
        for sent in self._events.hear(connection, LOOK):
            self.heard += 1
            yield from self.judge.sent(sent)
        yield from self.judge.look(_now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
