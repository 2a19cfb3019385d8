"""Compare sent messages with due occurrences. No clock, no I/O: callers pass the time.

Each occurrence ends as one of:

- in time: sent within the tolerance, either way;
- ``late``: sent after the tolerance, within ``LOST``;
- ``missed``: not sent within ``LOST``.

A message that fits no occurrence is ``extra`` if its process is a scheduler: one that has sent an occurrence.
The messages of other processes are unrelated, until theirs turns out to be a scheduler.

An occurrence by the calendar is due at its time. An interval is counted from the last message, as Beat counts
it: Beat drifts and the timetable keeps to its grid, so their times part sooner or later, and that is no
difference.
"""

import dataclasses
import datetime
import functools
import heapq
from collections.abc import Iterable, Iterator
from typing import Literal

from pgreact.timetable.recurrence import RecurrenceError
from pgreact.timetable.shadow.call import Call
from pgreact.timetable.shadow.expected import Expected

LOST = datetime.timedelta(seconds=60)  # after its time an occurrence is waited for as long


@dataclasses.dataclass(frozen=True)
class Sent:
    """A message that was sent.

    Attributes:
        call: Task and arguments.
        at: When, by the sender's clock.
        sender: Its process.
        task_id: Of the message.
    """

    call: Call
    at: datetime.datetime
    sender: str
    task_id: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference between the messages and the timetable.

    Attributes:
        kind: ``missed``, ``late`` or ``extra``: see the module.
        schedule: That of the occurrence; ``None``: extra, and of no schedule.
        call: Task and arguments.
        at: When it was due; of an extra message, when it was sent.
        late: How late it was sent.
        task_id: Of the message.
    """

    kind: Literal["missed", "late", "extra"]
    schedule: str | None
    call: Call
    at: datetime.datetime
    late: datetime.timedelta | None = None
    task_id: str | None = None


@dataclasses.dataclass
class _Due:
    """An occurrence whose message is awaited."""

    expected: Expected
    at: datetime.datetime
    early: datetime.timedelta  # it may be sent earlier by this
    certain: bool = True  # its message was not sent while the broker was away


class Comparison:
    """Compares messages with occurrences, in the order of time.

    Attributes:
        in_time: Occurrences sent in time.
        broken: Why schedules have no computable occurrences, by name.
    """

    def __init__(
        self, schedules: Iterable[Expected], tolerance: datetime.timedelta, now: datetime.datetime
    ) -> None:
        """Begin.

        Args:
            schedules: What is expected to be sent.
            tolerance: So far from its time, either way, an occurrence is in time.
            now: Occurrences before it may have been sent unseen.
        """
        self.in_time = 0
        self.broken: dict[str, str] = {}
        self._tolerance = tolerance
        self._blind_until = now
        self._schedules = list(schedules)
        self._ahead: list[tuple[datetime.datetime, int]] = []  # by the calendar; the second is the index
        self._due: dict[Call, list[_Due]] = {expected.call: [] for expected in self._schedules}
        self._of_task: dict[str, list[Call]] = {}
        for call in self._due:
            self._of_task.setdefault(call.task, []).append(call)
        self._expected_calls = functools.lru_cache(maxsize=1024)(self._matching)
        self._schedulers: set[str] = set()  # processes that sent an occurrence
        self._unrelated: dict[str, list[Sent]] = {}  # messages of the others, by process
        for index, expected in enumerate(self._schedules):
            if expected.every is None:
                self._plan(index, now - tolerance)
            else:
                self._await(expected, max(now, expected.start or now) + expected.every, expected.every)

    @property
    def unrelated(self) -> int:
        """How many messages came from processes that sent no occurrence, hence are no schedulers."""
        return sum(map(len, self._unrelated.values()))

    def look(self, now: datetime.datetime) -> Iterator[Difference]:
        """Yield what is missed by now."""
        self._advance(now)
        yield from self._give_up(now, now - LOST)

    def finish(self, now: datetime.datetime) -> Iterator[Difference]:
        """Yield what is missed if nothing more is sent."""
        self._advance(now)
        yield from self._give_up(now, now - self._tolerance)

    def sent(self, sent: Sent) -> Iterator[Difference]:
        """Yield the differences that a message shows."""
        self._advance(sent.at)
        waiting = [due for call in self._expected_calls(sent.call) for due in self._due[call]]
        fitting = [
            due for due in waiting if due.at - due.early <= sent.at <= due.at + self._time_allowed(due)
        ]
        if fitting:
            yield from self._take_for_scheduler(sent.sender)
            yield from self._came(min(fitting, key=lambda due: abs(due.at - sent.at)), sent)
        elif sent.sender in self._schedulers:
            yield self._extra(sent)
            for due in waiting:  # the interval is counted from here
                if due.expected.every is not None:
                    due.at, due.early = sent.at + due.expected.every, self._tolerance
        else:
            self._unrelated.setdefault(sent.sender, []).append(sent)

    def blind(self, since: datetime.datetime, until: datetime.datetime) -> None:
        """Do not report as missed what may have been sent while the broker was away."""
        self._advance(until)
        self._blind_until = until
        for waiting in self._due.values():
            for due in waiting:
                if due.expected.every is not None:
                    due.at, due.early = until + due.expected.every, until - since + due.expected.every
                elif due.at >= since - self._tolerance:
                    due.certain = False

    def _matching(self, sent: Call) -> list[Call]:
        """Return the expected calls that a message may be."""
        return [call for call in self._of_task.get(sent.task, ()) if call.may_be(sent)]

    def _plan(self, index: int, after: datetime.datetime) -> None:
        expected = self._schedules[index]
        try:
            at = expected.after(after)
        except RecurrenceError as error:
            self.broken[expected.name] = str(error)
        else:
            if at is not None:
                heapq.heappush(self._ahead, (at, index))

    def _advance(self, now: datetime.datetime) -> None:
        """Await the occurrences by the calendar that are due by now, or may be sent early."""
        while self._ahead and self._ahead[0][0] <= now + self._tolerance:
            at, index = heapq.heappop(self._ahead)
            self._await(self._schedules[index], at, self._tolerance, certain=at > self._blind_until)
            self._plan(index, at)

    def _await(
        self, expected: Expected, at: datetime.datetime, early: datetime.timedelta, *, certain: bool = True
    ) -> None:
        if expected.end is None or at <= expected.end:
            self._due[expected.call].append(_Due(expected, at, early, certain))

    def _time_allowed(self, due: _Due) -> datetime.timedelta:
        """Return how late a message may fit; only in time if the occurrence may have been sent unseen."""
        return LOST if due.certain else self._tolerance

    def _came(self, due: _Due, sent: Sent) -> Iterator[Difference]:
        self._due[due.expected.call].remove(due)
        late = sent.at - due.at
        if late > self._tolerance:
            yield Difference("late", due.expected.name, sent.call, due.at, late, sent.task_id)
        else:
            self.in_time += 1
        if due.expected.every is not None:
            self._await(due.expected, sent.at + due.expected.every, self._tolerance)

    def _give_up(self, now: datetime.datetime, before: datetime.datetime) -> Iterator[Difference]:
        lost = [due for waiting in self._due.values() for due in waiting if due.at < before]
        for due in sorted(lost, key=lambda due: due.at):
            self._due[due.expected.call].remove(due)
            if due.certain:
                yield Difference("missed", due.expected.name, due.expected.call, due.at)
            if (
                due.expected.every is not None
            ):  # the interval goes on from the next message, whenever it comes
                at = now + due.expected.every
                self._await(due.expected, at, at - due.at)

    def _take_for_scheduler(self, sender: str) -> Iterator[Difference]:
        self._schedulers.add(sender)
        yield from map(self._extra, self._unrelated.pop(sender, []))

    def _extra(self, sent: Sent) -> Difference:
        calls = self._expected_calls(sent.call)
        names = [expected.name for expected in self._schedules if expected.call in calls]
        return Difference("extra", names[0] if names else None, sent.call, sent.at, None, sent.task_id)
