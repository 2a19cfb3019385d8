"""The planner: a pure function of a schedule's row and the time. No clock, no I/O.

States of a schedule:

- ``new``: has no plan yet; ``next_run_at`` is null.
- ``planned``: fires at ``next_run_at``.
- ``ended``: has no further occurrence; an edit makes it new.
- ``failed``: has an error; an edit, or enabling it, makes it new.

Cases of ``plan``, in this order:

1. ``new``: the next occurrence is planned; nothing is due, except a single occurrence (``at``) in the past.
2. ``ended``, ``failed``, or ``next_run_at`` in the future: nothing changes.
3. ``next_run_at`` is not the actual time of ``next_nominal_at``: it was set by hand. One run, whatever the
limits. 4. ``max_runs`` is reached: the schedule ends. 5. ``next_nominal_at`` was fired before, since it was
planned by a clock that was behind: as from the occurrence after
   the last one that was fired.
6. An occurrence is due, and perhaps others after it: ``misfire``, ``grace`` and ``catch_up`` decide which are
fired. 7. The recurrence cannot be computed: ``failed``.

An occurrence has two times: the nominal one, by the recurrence, and the actual one, up to ``jitter`` later,
at which it is fired. Occurrences are fired in the order of their nominal times: one that jitter puts before
its predecessor waits for it.

Schedules and plans are never modified. They are not frozen, since frozen dataclasses take longer to make, and
thousands of schedules may be due at once.
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
_COUNTED = 10_000  # missed occurrences at most that are counted one by one, except those of a grid
_CAUGHT_UP = 10_000  # occurrences at most, even if a row that bypassed the checks has more
# An occurrence fired further ahead of the clock than this was fired by a wrong clock, and does not count.
# Clocks are set back by less in the ordinary course, and no occurrence is fired again for that.
AHEAD = timedelta(days=1)


@dataclasses.dataclass(kw_only=True, slots=True)
class Schedule:
    """The columns of ``pgreact.schedule`` that decide when it fires; see their comments."""

    id: int
    name: str
    revision: int
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
    """The occurrences to fire now, and the row's next values.

    Attributes:
        occurrences: To fire, oldest first: nominal times; of a run by hand, its time.
        state: The new state.
        next_nominal_at: The nominal time of the next occurrence.
        next_run_at: Its actual time.
        last_nominal_at: The last occurrence that was fired or missed.
        missed: How many due occurrences are not fired; a lower bound if there are thousands.
        late: An occurrence was found later than ``grace`` after its actual time.
        manual: ``next_run_at`` was set by hand.
        replanned_at: The current time, if ``replan`` made this plan.
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
    """Return what a schedule does now: see the cases above. No occurrence is fired before its actual time."""
    try:
        if schedule.next_run_at is None:
            return _begin(schedule, now) if schedule.state in {"new", "planned"} else _unchanged(schedule)
        if schedule.next_run_at > now:
            return _unchanged(schedule)
        nominal = schedule.next_nominal_at
        if nominal is None or schedule.next_run_at != actual(schedule.name, nominal, schedule.jitter):
            return _run_by_hand(schedule, schedule.next_run_at, now)
        return _fire(schedule, nominal, schedule.next_run_at, now)
    except RecurrenceError as error:
        wrong = str(error)
    except OverflowError:
        wrong = "its next occurrence, with its jitter, lies beyond the year 9999"
    return Plan(state="failed", last_nominal_at=schedule.last_nominal_at, error=wrong)


def replan(schedule: Schedule, now: datetime) -> Plan | None:
    """Return a new plan for a schedule whose next run its rule does not explain by the present clock.

    After a clock was far ahead, schedules planned by it wait for years, and bounded ones have ended.
    Occurrences further than ``AHEAD`` from now do not count as fired.

    Returns:
        ``None``: the plan is right, or ``next_run_at`` was set by hand, or the rule cannot be computed.
    """
    nominal = schedule.next_nominal_at
    if schedule.state == "planned" and (
        nominal is None or schedule.next_run_at != actual(schedule.name, nominal, schedule.jitter)
    ):
        return None
    if schedule.state == "ended" and (schedule.recurrence.at is not None or _runs_left(schedule, 0) == 0):
        return None
    try:
        expected = _from_now(schedule, now)
    except RecurrenceError:
        return None
    if expected is None or (nominal is not None and nominal <= expected):
        return None
    return dataclasses.replace(_planned(schedule, expected, schedule.last_nominal_at), replanned_at=now)


def actual(name: str, nominal: datetime, jitter: timedelta) -> datetime:
    """Return the actual time of an occurrence, which depends on these arguments alone.

    Args:
        name: Of the schedule.
        nominal: The occurrence.
        jitter: The actual time is less than this later than the nominal one.
    """
    if not jitter:
        return nominal
    text = f"{name}\0{(nominal - _EPOCH) // _MICROSECOND}"
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return nominal + number % (jitter // _MICROSECOND) * _MICROSECOND


def following(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first occurrence strictly later than a moment, between start and end.

    The start is an occurrence of ``every`` if its grid begins there.

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


def _unchanged(schedule: Schedule) -> Plan:
    """Case 2: nothing to do."""
    return Plan(
        state="planned" if schedule.next_run_at is not None else schedule.state,
        next_nominal_at=schedule.next_nominal_at,
        next_run_at=schedule.next_run_at,
        last_nominal_at=schedule.last_nominal_at,
    )


def _begin(schedule: Schedule, now: datetime) -> Plan:
    """Case 1: plan the next occurrence."""
    last, once, kept = schedule.last_nominal_at, schedule.recurrence.at, schedule.next_nominal_at
    if kept is not None:  # an edit kept the recurrence
        found = following(schedule, kept - _MICROSECOND), _from_now(schedule, now)
        nominal = min((time for time in found if time is not None), default=None)
    elif once is None:
        nominal = _from_now(schedule, now)
    else:
        # the single occurrence was fired, even if by a wrong clock
        dealt_with = last if last == once else _dealt_with(schedule, now)
        nominal = following(schedule, once - _MICROSECOND if dealt_with is None else dealt_with)
        if nominal is not None:
            moment = actual(schedule.name, nominal, schedule.jitter)
            if moment <= now:
                return _fire(schedule, nominal, moment, now)
    return _planned(schedule, nominal, last)


def _dealt_with(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the last occurrence that was fired or missed, unless by a clock that was far ahead."""
    last = schedule.last_nominal_at
    return None if last is None or last > now + AHEAD else last


def _from_now(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the first occurrence after now that was not fired or missed."""
    last = _dealt_with(schedule, now)
    return following(schedule, now if last is None else max(now, last))


def _run_by_hand(schedule: Schedule, moment: datetime, now: datetime) -> Plan:
    """Case 3: run once, whatever the limits."""
    nominal, last = schedule.next_nominal_at, schedule.last_nominal_at
    if nominal is None or nominal <= now:
        # the run replaces the occurrence that was due
        last = max((time for time in (_dealt_with(schedule, now), nominal) if time is not None), default=last)
        nominal = _from_now(dataclasses.replace(schedule, last_nominal_at=last), now)
    return _planned(schedule, nominal, last, (moment,), manual=True)


def _fire(schedule: Schedule, nominal: datetime, moment: datetime, now: datetime) -> Plan:
    """Cases 4 to 6: an occurrence is due, and perhaps others after it."""
    left = _runs_left(schedule, 0)
    if left == 0:
        return _planned(schedule, None, schedule.last_nominal_at)
    dealt_with = _dealt_with(schedule, now)
    if dealt_with is not None and nominal <= dealt_with:  # case 5
        following_ = following(schedule, dealt_with)
        if following_ is None or (moment := actual(schedule.name, following_, schedule.jitter)) > now:
            return _planned(schedule, following_, dealt_with)
        nominal = following_
    due, count, newest, next_nominal = _due(schedule, nominal, moment, now)
    late = now - moment > schedule.grace
    last = due[-1]
    if schedule.misfire == "skip" and now - newest > schedule.grace:
        due.clear()
    # occurrences beyond max_runs are not missed
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
    """Return the plan with this next occurrence, or the end of the schedule."""
    if nominal is None or _runs_left(schedule, len(fired)) == 0:
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


def _runs_left(schedule: Schedule, fired: int) -> int | None:
    """Return how many runs are left after ``fired`` more; ``None``: no limit."""
    return None if schedule.max_runs is None else max(schedule.max_runs - schedule.run_count - fired, 0)


def _due(
    schedule: Schedule, nominal: datetime, moment: datetime, now: datetime
) -> tuple[deque[datetime], int, datetime, datetime | None]:
    """Return the due occurrences, from the first one on.

    Returns:
        The newest ones, as many as may be fired; the number of all; the latest actual time among them; and
        the first occurrence that is not due.
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
    """Return how many due occurrences of a grid can be skipped, since they are not among the newest."""
    until = now - schedule.jitter  # occurrences that are nominally later may be due or not
    if schedule.end_at is not None:
        until = min(until, schedule.end_at)
    return max((until - nominal) // every + 1 - keep, 0)


def _near(schedule: Schedule, found: datetime, now: datetime, keep: int) -> datetime:
    """Return a moment from an occurrence on, after which at least ``keep`` are due, and seldom many more."""
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
