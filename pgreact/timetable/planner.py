"""What a schedule does now: a function of its row and of the moment. No clock, no I/O.

Nobody changes a schedule or a plan. To have Python forbid it takes longer than to make one, and thousands may
be due at once.

An occurrence has two times: the nominal one, which what was written means, and the actual one, up to
``jitter`` later, at which it is to be fired. Occurrences are dealt with in the order of their nominal times:
one that jitter puts before its predecessor waits for it.
"""

import dataclasses
import hashlib
import itertools
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after

State = Literal["new", "planned", "ended", "failed"]
Misfire = Literal["coalesce", "skip", "all"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Occurrences that were missed are counted one by one up to this number, except those of a grid.
_COUNTED = 10_000
_CAUGHT_UP = 10_000  # occurrences at most, whatever a row says that nothing checked
# What was dealt with further ahead of the clock than this was so by a clock that was wrong. By less a clock
# is put back now and then, and no occurrence is fired again for it.
AHEAD = timedelta(days=1)


@dataclasses.dataclass(kw_only=True, slots=True)
class Schedule:
    """What a row of ``pgreact.schedule`` says about when; its columns are described there."""

    id: int
    name: str
    turn: int
    state: State
    recurrence: Recurrence
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None
    run_count: int = 0
    jitter: timedelta = timedelta(0)
    misfire: Misfire = "coalesce"
    grace: timedelta = timedelta(minutes=1)
    catch_up: int = 100
    next_nominal_at: datetime | None = None
    next_run_at: datetime | None = None
    last_nominal_at: datetime | None = None


@dataclasses.dataclass(kw_only=True, slots=True)
class Plan:
    """What is to be fired now, and what the row says afterwards.

    Attributes:
        occurrences: What is to be fired, oldest first: nominal times; of a manual run, its time.
        state: The state of the schedule from now on.
        next_nominal_at: The nominal time of the next occurrence.
        next_run_at: Its actual time.
        last_nominal_at: Up to where occurrences have been dealt with, fired or missed.
        missed: Occurrences that were due and are not fired; at least so many, if there are thousands.
        late: An occurrence was found later than ``grace`` after its actual time.
        manual: Somebody set ``next_run_at``.
        replanned_at: The present, if it was planned anew by it: see ``replan``.
        error: Why the state is ``failed``.
    """

    occurrences: tuple[datetime, ...] = ()
    state: State
    next_nominal_at: datetime | None = None
    next_run_at: datetime | None = None
    last_nominal_at: datetime | None
    missed: int = 0
    late: bool = False
    manual: bool = False
    replanned_at: datetime | None = None
    error: str | None = None


def plan(schedule: Schedule, now: datetime) -> Plan:
    """Decide what a schedule does now.

    Nothing is fired whose actual time lies ahead, so it may be asked at any moment.
    """
    try:
        if schedule.next_run_at is None:
            return _begin(schedule, now) if schedule.state in {"new", "planned"} else _same(schedule)
        if schedule.next_run_at > now:
            return _same(schedule)
        nominal = schedule.next_nominal_at
        if nominal is None or schedule.next_run_at != actual(schedule.name, nominal, schedule.jitter):
            return _run(schedule, schedule.next_run_at, now)
        return _fire(schedule, nominal, schedule.next_run_at, now)
    except RecurrenceError as error:
        wrong = str(error)
    except OverflowError:
        wrong = "its next occurrence, with its jitter, lies beyond the year 9999"
    return Plan(state="failed", last_nominal_at=schedule.last_nominal_at, error=wrong)


def replan(schedule: Schedule, now: datetime) -> Plan | None:
    """Plan anew from now on what waits for a time that its rule does not explain by the present clock.

    So it is after a clock was far ahead: what was planned then lies years away, and what was bounded has
    ended. What is further than ``AHEAD`` from now counts as dealt with no more.

    Returns:
        ``None``: there is no need, or somebody set ``next_run_at``, or nobody can tell.
    """
    nominal = schedule.next_nominal_at
    if schedule.state == "planned" and (
        nominal is None or schedule.next_run_at != actual(schedule.name, nominal, schedule.jitter)
    ):
        return None
    if schedule.state == "ended" and (schedule.recurrence.at is not None or _left(schedule, 0) == 0):
        return None
    try:
        expected = _from_now(schedule, now)
    except RecurrenceError:
        return None
    if expected is None or (nominal is not None and nominal <= expected):
        return None
    return dataclasses.replace(_planned(schedule, expected, schedule.last_nominal_at), replanned_at=now)


def actual(name: str, nominal: datetime, jitter: timedelta) -> datetime:
    """Return when an occurrence is to be fired: whoever asks, the same moment.

    Args:
        name: The schedule's.
        nominal: The occurrence.
        jitter: The actual time is less than this after the nominal one.
    """
    if not jitter:
        return nominal
    text = f"{name}\0{(nominal - _EPOCH) // _MICROSECOND}"
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return nominal + number % (jitter // _MICROSECOND) * _MICROSECOND


def following(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first occurrence strictly later than a moment that lies between start and end.

    The start is itself an occurrence of ``every`` if its grid begins there.

    Raises:
        RecurrenceError: As ``recurrence.next_after``.
    """
    recurrence, start, end = schedule.recurrence, schedule.start_at, schedule.end_at
    if start is None or after >= start:
        found = next_after(recurrence, after)
    elif recurrence.every_us is not None and recurrence.anchor == start:
        found = start
    else:
        found = next_after(recurrence, start - _MICROSECOND)
    return None if found is None or (end is not None and found > end) else found


def _same(schedule: Schedule) -> Plan:
    """Nothing to do."""
    return Plan(
        state="planned" if schedule.next_run_at is not None else schedule.state,
        next_nominal_at=schedule.next_nominal_at,
        next_run_at=schedule.next_run_at,
        last_nominal_at=schedule.last_nominal_at,
    )


def _begin(schedule: Schedule, now: datetime) -> Plan:
    """It is new: nothing is due, except what is to happen once, and has not."""
    last, once, kept = schedule.last_nominal_at, schedule.recurrence.at, schedule.next_nominal_at
    if kept is not None:  # what recurs was not edited
        found = following(schedule, kept - _MICROSECOND), _from_now(schedule, now)
        nominal = min((time for time in found if time is not None), default=None)
    elif once is None:
        nominal = _from_now(schedule, now)
    else:
        # by whatever clock it happened, that moment was it
        dealt_with = last if last == once else _dealt_with(schedule, now)
        nominal = following(schedule, once - _MICROSECOND if dealt_with is None else dealt_with)
        if nominal is not None:
            moment = actual(schedule.name, nominal, schedule.jitter)
            if moment <= now:
                return _fire(schedule, nominal, moment, now)
    return _planned(schedule, nominal, last)


def _dealt_with(schedule: Schedule, now: datetime) -> datetime | None:
    """Return up to where occurrences have been dealt with, unless by a clock that was far ahead."""
    last = schedule.last_nominal_at
    return None if last is None or last > now + AHEAD else last


def _from_now(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the first occurrence after the present that has not been dealt with."""
    last = _dealt_with(schedule, now)
    return following(schedule, now if last is None else max(now, last))


def _run(schedule: Schedule, moment: datetime, now: datetime) -> Plan:
    """Somebody set when it runs next: it does, once, whatever its limits are."""
    nominal, last = schedule.next_nominal_at, schedule.last_nominal_at
    if nominal is None or nominal <= now:
        # the run stands for the occurrence that was due
        last = max((time for time in (_dealt_with(schedule, now), nominal) if time is not None), default=last)
        nominal = _from_now(dataclasses.replace(schedule, last_nominal_at=last), now)
    return _planned(schedule, nominal, last, (moment,), manual=True)


def _fire(schedule: Schedule, nominal: datetime, moment: datetime, now: datetime) -> Plan:
    """An occurrence is due, and perhaps others after it."""
    left = _left(schedule, 0)
    if left == 0:
        return _planned(schedule, None, schedule.last_nominal_at)
    dealt_with = _dealt_with(schedule, now)
    if dealt_with is not None and nominal <= dealt_with:  # it was planned by a clock that was behind
        following_ = following(schedule, dealt_with)
        if following_ is None or (moment := actual(schedule.name, following_, schedule.jitter)) > now:
            return _planned(schedule, following_, dealt_with)
        nominal = following_
    due, count, newest, next_nominal = _due(schedule, nominal, moment, now)
    late = now - moment > schedule.grace
    last = due[-1]
    if schedule.misfire == "skip" and now - newest > schedule.grace:
        due.clear()
    # beyond max_runs nothing was to be, so nothing is missed
    fired = tuple(itertools.islice(due, left))
    return _planned(schedule, next_nominal, last, fired, missed=count - len(due), late=late)


def _planned(
    schedule: Schedule,
    nominal: datetime | None,
    last: datetime | None,
    fired: tuple[datetime, ...] = (),
    *,
    missed: int = 0,
    late: bool = False,
    manual: bool = False,
) -> Plan:
    """Return a plan whose next occurrence is this one, unless it ends."""
    if nominal is None or _left(schedule, len(fired)) == 0:
        state: State = "ended"
        nominal = moment = None
    else:
        state, moment = "planned", actual(schedule.name, nominal, schedule.jitter)
    return Plan(
        occurrences=fired,
        state=state,
        next_nominal_at=nominal,
        next_run_at=moment,
        last_nominal_at=last,
        missed=missed,
        late=late,
        manual=manual,
    )


def _left(schedule: Schedule, fired: int) -> int | None:
    """Return how many runs are left after these; ``None``: no limit."""
    return None if schedule.max_runs is None else max(schedule.max_runs - schedule.run_count - fired, 0)


def _due(
    schedule: Schedule, nominal: datetime, moment: datetime, now: datetime
) -> tuple[deque[datetime], int, datetime, datetime | None]:
    """Follow the occurrences that are due, from the first one on.

    Returns:
        The newest of them, as many as could be fired; how many there are; when the newest became due; and
        the first one that is not due.
    """
    keep = min(schedule.catch_up, _CAUGHT_UP) if schedule.misfire == "all" else 1
    every = schedule.recurrence.every_us
    newest: deque[datetime] = deque(maxlen=keep)
    found: datetime | None = nominal
    count = 0
    if every is not None:
        count = _leap(schedule, nominal, every * _MICROSECOND, now, keep)
        found = nominal + count * every * _MICROSECOND
    while found is not None and (time := actual(schedule.name, found, schedule.jitter)) <= now:
        newest.append(found)
        moment = max(moment, time)
        count += 1
        if count == _COUNTED and every is None:
            found = _near(schedule, found, now, keep)
        found = following(schedule, found)
    return newest, count, moment, found


def _leap(schedule: Schedule, nominal: datetime, every: timedelta, now: datetime, keep: int) -> int:
    """Return how many occurrences of a grid need no look: they are due, and not among the newest."""
    until = now - schedule.jitter  # what is nominally later may be due or not
    if schedule.end_at is not None:
        until = min(until, schedule.end_at)
    return max((until - nominal) // every + 1 - keep, 0)


def _near(schedule: Schedule, found: datetime, now: datetime, keep: int) -> datetime:
    """Return a moment, not before an occurrence, after which at least so many are due, seldom many more."""
    until = now - schedule.jitter
    span = timedelta(minutes=1)
    while until - span > found:
        due = itertools.takewhile(lambda time: time <= until, _from(schedule, until - span))
        if sum(1 for _ in itertools.islice(due, keep)) == keep:
            return until - span
        span *= 2
    return found


def _from(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the occurrences later than a moment."""
    found = following(schedule, after)
    while found is not None:
        yield found
        found = following(schedule, found)
