"""What was sent, held against what was due. No clock, no I/O: whoever asks says what time it is.

An occurrence by the calendar is due at its time. An interval is counted from the last send, as Beat counts:
Beat's drift, and the timetable's keep to their grid, so sooner or later they part, which is no news.
"""

import dataclasses
import datetime
import functools
import heapq
from collections.abc import Iterable, Iterator
from typing import Literal

from pgreact.timetable.recurrence import RecurrenceError
from pgreact.timetable.shadow.call import Call
from pgreact.timetable.shadow.expected import Watched

LOST = datetime.timedelta(seconds=60)  # what is later than this does not come


@dataclasses.dataclass(frozen=True)
class Sent:
    """A message that somebody sent.

    Attributes:
        call: Task and arguments.
        at: When, by the sender's clock.
        sender: Its process.
        task_id: The message.
    """

    call: Call
    at: datetime.datetime
    sender: str
    task_id: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where the two part.

    Attributes:
        kind: ``missed``: it was due and not sent; ``late``: it was, but not in time; ``extra``: it was sent,
            and not due.
        schedule: Whose occurrence it is; of an extra one that nothing sends, ``None``.
        call: Task and arguments.
        at: When it was due; of an extra one, when it was sent.
        late: By how much.
        task_id: The message.
    """

    kind: Literal["missed", "late", "extra"]
    schedule: str | None
    call: Call
    at: datetime.datetime
    late: datetime.timedelta | None = None
    task_id: str | None = None


@dataclasses.dataclass
class _Due:
    """An occurrence that is waited for."""

    watched: Watched
    at: datetime.datetime
    early: datetime.timedelta  # it may come sooner by this
    certain: bool = True  # it cannot have been sent while nobody looked


class Judge:
    """Holds what was sent against what was due.

    Attributes:
        in_time: How many occurrences were sent in time.
        broken: Schedules that do not say when, and why.
    """

    def __init__(
        self, schedules: Iterable[Watched], tolerance: datetime.timedelta, now: datetime.datetime
    ) -> None:
        """Begin.

        Args:
            schedules: What is to be sent.
            tolerance: So far from its time a send is in time, either way.
            now: What was due before need not have been seen.
        """
        self.in_time = 0
        self.broken: dict[str, str] = {}
        self._tolerance = tolerance
        self._blind_until = now
        self._schedules = list(schedules)
        self._ahead: list[tuple[datetime.datetime, int]] = []  # by the calendar; the second is its place
        self._due: dict[Call, list[_Due]] = {watched.call: [] for watched in self._schedules}
        self._of_task: dict[str, list[Call]] = {}
        for call in self._due:
            self._of_task.setdefault(call.task, []).append(call)
        self._planned = functools.lru_cache(maxsize=1024)(self._find)
        self._schedulers: set[str] = set()  # processes that sent what was due
        self._strange: dict[str, list[Sent]] = {}  # what others sent, who may yet turn out to be one
        for place, watched in enumerate(self._schedules):
            if watched.every is None:
                self._plan(place, now - tolerance)
            else:
                self._wait(watched, max(now, watched.start or now) + watched.every, watched.every)

    @property
    def strange(self) -> int:
        """How many messages came from processes that sent nothing that was due, hence are no scheduler."""
        return sum(map(len, self._strange.values()))

    def look(self, now: datetime.datetime) -> Iterator[Difference]:
        """Tell what is known by now to be missed."""
        self._expect(now)
        yield from self._give_up(now, now - LOST)

    def finish(self, now: datetime.datetime) -> Iterator[Difference]:
        """Tell what is missed if nothing more is sent."""
        self._expect(now)
        yield from self._give_up(now, now - self._tolerance)

    def sent(self, sent: Sent) -> Iterator[Difference]:
        """Tell what a message makes known."""
        self._expect(sent.at)
        waiting = [due for call in self._planned(sent.call) for due in self._due[call]]
        fitting = [due for due in waiting if due.at - due.early <= sent.at <= due.at + self._patience(due)]
        if fitting:
            yield from self._strange_no_more(sent.sender)
            yield from self._came(min(fitting, key=lambda due: abs(due.at - sent.at)), sent)
        elif sent.sender in self._schedulers:
            yield self._extra(sent)
            for due in waiting:  # from here on it counts anew
                if due.watched.every is not None:
                    due.at, due.early = sent.at + due.watched.every, self._tolerance
        else:
            self._strange.setdefault(sent.sender, []).append(sent)

    def blind(self, since: datetime.datetime, until: datetime.datetime) -> None:
        """Do not wait for what may have been sent while nobody looked."""
        self._expect(until)
        self._blind_until = until
        for waiting in self._due.values():
            for due in waiting:
                if due.watched.every is not None:
                    due.at, due.early = until + due.watched.every, until - since + due.watched.every
                elif due.at >= since - self._tolerance:
                    due.certain = False

    def _find(self, sent: Call) -> list[Call]:
        """Return the calls that are planned, and may be the one that was sent."""
        return [call for call in self._of_task.get(sent.task, ()) if call.may_be(sent)]

    def _plan(self, place: int, after: datetime.datetime) -> None:
        watched = self._schedules[place]
        try:
            at = watched.after(after)
        except RecurrenceError as error:
            self.broken[watched.name] = str(error)
        else:
            if at is not None:
                heapq.heappush(self._ahead, (at, place))

    def _expect(self, now: datetime.datetime) -> None:
        while self._ahead and self._ahead[0][0] <= now + self._tolerance:
            at, place = heapq.heappop(self._ahead)
            self._wait(self._schedules[place], at, self._tolerance, certain=at > self._blind_until)
            self._plan(place, at)

    def _wait(
        self, watched: Watched, at: datetime.datetime, early: datetime.timedelta, *, certain: bool = True
    ) -> None:
        if watched.end is None or at <= watched.end:
            self._due[watched.call].append(_Due(watched, at, early, certain))

    def _patience(self, due: _Due) -> datetime.timedelta:
        """What need not come at all is taken for what is heard only where that is in time."""
        return LOST if due.certain else self._tolerance

    def _came(self, due: _Due, sent: Sent) -> Iterator[Difference]:
        self._due[due.watched.call].remove(due)
        late = sent.at - due.at
        if late > self._tolerance:
            yield Difference("late", due.watched.name, sent.call, due.at, late, sent.task_id)
        else:
            self.in_time += 1
        if due.watched.every is not None:
            self._wait(due.watched, sent.at + due.watched.every, self._tolerance)

    def _give_up(self, now: datetime.datetime, before: datetime.datetime) -> Iterator[Difference]:
        lost = [due for waiting in self._due.values() for due in waiting if due.at < before]
        for due in sorted(lost, key=lambda due: due.at):
            self._due[due.watched.call].remove(due)
            if due.certain:
                yield Difference("missed", due.watched.name, due.watched.call, due.at)
            if due.watched.every is not None:  # whenever it comes, that is where it goes on
                at = now + due.watched.every
                self._wait(due.watched, at, at - due.at)

    def _strange_no_more(self, sender: str) -> Iterator[Difference]:
        self._schedulers.add(sender)
        yield from map(self._extra, self._strange.pop(sender, []))

    def _extra(self, sent: Sent) -> Difference:
        calls = self._planned(sent.call)
        names = [watched.name for watched in self._schedules if watched.call in calls]
        return Difference("extra", names[0] if names else None, sent.call, sent.at, None, sent.task_id)
