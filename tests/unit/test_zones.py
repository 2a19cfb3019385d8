"""Cron and rrule around each change of offset of each time zone, beside Debian's rules, minute by minute.

The reference knows neither cronsim nor our way of looking for the next one. It does what ``cron(8)`` says, as
a daemon would that looks at its clock each minute:

- jobs that go by the clock run whenever it shows their time;
- of the others, those run whose time has come since the latest time that the clock ever showed: so a time
  that was skipped is made up for at once, and one that comes again is not run again.
"""

import dataclasses
import functools
import zoneinfo
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FROM, TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)

Matches = Callable[[datetime], bool]


@dataclasses.dataclass(frozen=True, order=True)
class Change:
    """A moment at which the clocks of a zone jump: equal for all zones that do the same then."""

    moment: datetime
    before: timedelta
    after: timedelta
    zone: str = dataclasses.field(compare=False)

    @property
    def begin(self) -> datetime:
        """Where the gap, or what is shown twice, begins."""
        return (self.moment + min(self.before, self.after)).replace(tzinfo=None)

    @property
    def end(self) -> datetime:
        """Where it ends."""
        return (self.moment + max(self.before, self.after)).replace(tzinfo=None)

    @property
    def inside(self) -> datetime:
        """Its middle."""
        return self.begin + (self.end - self.begin) // 2

    @property
    def around(self) -> tuple[datetime, datetime]:
        """From when to when clocks show anything of it, and a little more."""
        size = abs(self.after - self.before)
        return self.moment - size - HOUR / 2, self.moment + size + HOUR


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found


def jumps(name: str) -> Iterator[Change]:
    """Find the changes of a zone from 2020 to 2035."""
    zone = ZoneInfo(name)
    day, before = FROM, offset(FROM, zone)
    while day < TO:
        day += DAY
        after = offset(day, zone)
        if after != before:
            low, high = day - DAY, day
            while high - low > MINUTE:
                middle = low + (high - low) // 2 // MINUTE * MINUTE
                low, high = (middle, high) if offset(middle, zone) == before else (low, middle)
            yield Change(high, before, after, name)
            before = after


@functools.cache
def all_changes() -> tuple[Change, ...]:
    return tuple(sorted({change for name in zoneinfo.available_timezones() for change in jumps(name)}))


@dataclasses.dataclass(frozen=True)
class Tick:
    """A look at the clock."""

    moment: datetime
    shown: list[datetime]  # the wall time
    come: list[datetime]  # the wall times that have come since the latest that was ever shown


def walk(zone: str, begin: datetime, end: datetime, step: timedelta = MINUTE) -> list[Tick]:
    """Look at the clock at each step."""
    where = ZoneInfo(zone)
    latest = (begin - step).astimezone(where).replace(tzinfo=None)
    ticks = []
    moment = begin
    while moment <= end:
        wall = moment.astimezone(where).replace(tzinfo=None)
        come = [wall - back * step for back in range((wall - latest) // step)]
        ticks.append(Tick(moment, [wall], come))
        latest = max(latest, wall)
        moment += step
    return ticks


def reference(clock: list[Tick], matches: Matches, *, fixed: bool) -> list[datetime]:
    """Return when cron runs a job, by the rules above."""
    return [tick.moment for tick in clock if any(map(matches, tick.come if fixed else tick.shown))]


def ours(recurrence: Recurrence, begin: datetime, end: datetime) -> list[datetime]:
    """Return the occurrences after one moment and up to another."""
    found = []
    moment = next_after(recurrence, begin)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = next_after(recurrence, moment)
    return found


def cron(text: str, zone: str, *, both: bool = False) -> Recurrence:
    return Recurrence(cron=text, cron_and=both, timezone=zone, anchor=FROM)


ANY = range(60)


def shows(
    *,
    second: Container[int] = ANY,
    minute: Container[int] = ANY,
    hour: Container[int] = ANY,
    day: Container[int] = ANY,
    weekday: Container[int] = ANY,
) -> Matches:
    """Return whether all of these match; Sunday is 0."""

    def matches(wall: datetime) -> bool:
        return (
            wall.minute in minute
            and wall.hour in hour
            and wall.second in second
            and wall.day in day
            and wall.isoweekday() % 7 in weekday
        )

    return matches


def jobs(change: Change) -> list[tuple[str, bool, Matches]]:
    """Return expressions that a change concerns: each with whether it is fixed, and what it means."""
    inside, edge, last = change.inside, change.begin, change.end - MINUTE
    m, h, day, weekday = inside.minute, inside.hour, inside.day, inside.isoweekday() % 7
    return [
        ("*/7 * * * *", False, shows(minute=range(0, 60, 7))),
        ("0 * * * *", False, shows(minute={0})),
        (f"{m} */2 * * *", False, shows(minute={m}, hour=range(0, 24, 2))),
        (f"*/10 {h} * * *", False, shows(minute=range(0, 60, 10), hour={h})),
        (f"*/15 * {day} * *", False, shows(minute=range(0, 60, 15), day={day})),
        (
            f"*/6 {edge.hour} * * {weekday}",
            False,
            shows(minute=range(0, 60, 6), hour={edge.hour}, weekday={weekday}),
        ),
        (
            f"*/6 {last.hour} {day} * *",
            False,
            shows(minute=range(0, 60, 6), hour={last.hour}, day={day}),
        ),
        ("0 0 * * *", True, shows(minute={0}, hour={0})),
        ("59 23 * * *", True, shows(minute={59}, hour={23})),
        (f"{m} {h} * * *", True, shows(minute={m}, hour={h})),
        (f"{edge.minute} {edge.hour} * * *", True, shows(minute={edge.minute}, hour={edge.hour})),
        (f"{last.minute} {last.hour} * * *", True, shows(minute={last.minute}, hour={last.hour})),
        (f"10,40 {h} * * *", True, shows(minute={10, 40}, hour={h})),
        (f"{m} 0-23 * * *", True, shows(minute={m})),
        (f"{m} {h} {day} * *", True, shows(minute={m}, hour={h}, day={day})),
        (f"{m} {h} * * mon-fri", True, shows(minute={m}, hour={h}, weekday=range(1, 6))),
        (f"{m} 22-5 * * sat-mon", True, shows(minute={m}, hour={22, 23, *range(6)}, weekday={6, 0, 1})),
    ]


# ---- all zones ---------------------------------------------------------------------------------------------


def test_the_changes_are_many_and_of_every_kind() -> None:
    """With tzdata 2025b they are 1,007, by half an hour, one, two and three hours."""
    changes = all_changes()
    sizes = {change.after - change.before for change in changes}
    assert len(changes) > 900
    assert {HOUR, -HOUR, HOUR / 2, -HOUR / 2, 2 * HOUR, -2 * HOUR} <= sizes
    assert max(map(abs, sizes)) <= 3 * HOUR  # beyond that, Debian's cron would take it for a correction
    gaps = [change for change in changes if change.after > change.before]
    assert any(gap.begin.hour == 0 for gap in gaps), "a midnight is skipped"


def test_each_change_of_each_zone_is_dealt_with_as_cron_does() -> None:
    for change in all_changes():
        begin, end = change.around
        clock = walk(change.zone, begin, end)
        for text, fixed, matches in jobs(change):
            expected = [moment for moment in reference(clock, matches, fixed=fixed) if moment > begin]
            assert ours(cron(text, change.zone), begin, end) == expected, (change, text)


def test_every_minute_is_every_minute() -> None:
    for change in all_changes()[::10]:
        begin, end = change.moment - HOUR / 2, change.moment + 3 * HOUR
        found = ours(cron("* * * * *", change.zone), begin, end)
        assert found == [begin + number * MINUTE for number in range(1, 211)], change


def test_where_one_begins_to_look_makes_no_difference() -> None:
    """A daemon that starts in the second pass of an hour, say, knows what the first one has had."""
    for change in all_changes()[::7]:
        begin, end = change.around
        clock = walk(change.zone, begin, end)
        for text, fixed, matches in jobs(change)[2:11]:
            recurrence = cron(text, change.zone)
            expected = reference(clock, matches, fixed=fixed)
            for tick in clock[::7]:
                after = tick.moment + timedelta(seconds=11.5)
                found = next_after(recurrence, after)
                later = [time for time in expected if time > after]
                assert later[0] == found if later else found is None or found > end, (change, text, after)


def test_a_rule_comes_when_a_fixed_job_of_the_same_time_comes() -> None:
    for change in all_changes():
        inside = change.inside
        begin, end = change.moment - 6 * HOUR, change.moment + 6 * HOUR
        rule = f"FREQ=DAILY;BYHOUR={inside.hour};BYMINUTE={inside.minute};BYSECOND=0"
        daily = Recurrence(rrule=rule, timezone=change.zone, anchor=FROM)
        found = ours(daily, begin, end)
        assert found == ours(cron(f"{inside.minute} {inside.hour} * * *", change.zone), begin, end), change
        assert len(found) == 1


# ---- seconds -----------------------------------------------------------------------------------------------

ODD = [
    ("Europe/Paris", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Paris", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize(("zone", "moment"), ODD)
def test_six_fields_keep_the_same_rules(zone: str, moment: datetime) -> None:
    (change,) = (change for change in jumps(zone) if change.moment == moment)
    m, h = change.inside.minute, change.inside.hour
    begin, end = change.around
    clock = walk(zone, begin, end, timedelta(seconds=1))
    expressions: list[tuple[str, bool, Matches]] = [
        (f"0 {m} {h} * * *", True, shows(second={0}, minute={m}, hour={h})),
        (f"5-9/2 {m} {h} * * *", True, shows(second={5, 7, 9}, minute={m}, hour={h})),
        (f"*/20 {m} {h} * * *", False, shows(second={0, 20, 40}, minute={m}, hour={h})),
        (f"58-1 */15 {h} * * *", False, shows(second={58, 59, 0, 1}, minute={0, 15, 30, 45}, hour={h})),
        (f"30 {m} * * * *", False, shows(second={30}, minute={m})),
    ]
    for text, fixed, matches in expressions:
        expected = [time for time in reference(clock, matches, fixed=fixed) if time > begin]
        assert ours(cron(text, zone), begin, end) == expected, text


# ---- any expression ----------------------------------------------------------------------------------------


MONTHS = ("jan", "feb", "mar", "apr", "may", "june", "jul", "aug", "sep", "oct", "nov", "december")
DAYS = ("sun", "mon", "tuesday", "wed", "thu", "fri", "sat")


@dataclasses.dataclass(frozen=True)
class Field:
    text: str
    values: frozenset[int]


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, size: int, names: tuple[str, ...] = ()) -> Field:
    """A field of cron: lists of numbers or names, of ranges, some of which wrap, and of steps."""

    def written(number: int) -> str:
        if number - low >= len(names) or draw(st.booleans()):
            return str(number)
        return draw(st.sampled_from([str.upper, str.lower, str.title]))(names[number - low])

    terms, values = [], set[int]()
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        step = draw(st.sampled_from([1, 1, 2, 3, 5, 7, 20]))
        suffix = f"/{step}" if step > 1 else ""
        kind = draw(st.sampled_from(["star", "number", "range"]))
        if kind == "star":
            terms.append(f"*{suffix}")
            values |= set(range(low, high + 1, step))
        elif kind == "number":
            number = draw(st.integers(low, high))
            terms.append(written(number))
            values.add(number)
        else:
            begin, end = draw(st.integers(low, high)), draw(st.integers(low, high))
            end -= end - begin == size  # sun-sun is one day, 0-7 are all
            terms.append(f"{written(begin)}-{written(end)}{suffix}")
            number, reached = begin, [begin]
            while number != end and (number - end) % size:  # one by one, around the corner if need be
                number = number + 1 if begin <= end else low + (number - low + 1) % size
                reached.append(number)
            values |= set(reached[::step])
    return Field(",".join(terms), frozenset(values))


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, bool, bool, Matches]:
    """An expression, whether both days must match, whether it is fixed, and what it means."""
    minute, hour = draw(fields(0, 59, 60)), draw(fields(0, 23, 24))
    day = draw(st.just(Field("*", frozenset(range(1, 32)))) | fields(1, 31, 31))
    month = draw(st.just(Field("*", frozenset(range(1, 13)))) | fields(1, 12, 12, MONTHS))
    weekday = draw(st.just(Field("*", frozenset(range(8)))) | fields(0, 7, 7, DAYS))
    both = draw(st.booleans())
    and_ = both or day.text.startswith("*") or weekday.text.startswith("*")
    weekdays = {number % 7 for number in weekday.values}

    def matches(wall: datetime) -> bool:
        if wall.minute not in minute.values or wall.hour not in hour.values or wall.month not in month.values:
            return False
        days = (wall.day in day.values, wall.isoweekday() % 7 in weekdays)
        return all(days) if and_ else any(days)

    text = f" {minute.text}  {hour.text}\t{day.text} {month.text} {weekday.text} "
    return text, both, not minute.text.startswith("*") and not hour.text.startswith("*"), matches


ORDINARY = st.tuples(
    st.sampled_from(["UTC", "Europe/Paris", "Asia/Kathmandu", "America/New_York"]),
    st.integers(0, (TO - FROM) // MINUTE).map(lambda number: FROM + number * MINUTE),
)
MIDNIGHT = ("America/Santiago", datetime(2026, 9, 6, 4, tzinfo=UTC))  # its midnight is skipped


@functools.lru_cache(maxsize=16)
def clock_of(zone: str, moment: datetime) -> list[Tick]:
    return walk(zone, moment - 13 * HOUR, moment + 13 * HOUR)


@settings(deadline=None, max_examples=120)
@given(expressions(), st.sampled_from([*ODD, MIDNIGHT]) | ORDINARY)
def test_any_expression_means_what_its_fields_say(
    expression: tuple[str, bool, bool, Matches], place: tuple[str, datetime]
) -> None:
    text, both, fixed, matches = expression
    zone, moment = place
    try:
        recurrence = cron(text, zone, both=both)
    except RecurrenceError:  # it never occurs
        assert not reference(clock_of(zone, moment)[1:], matches, fixed=fixed)
        return
    clock = clock_of(zone, moment)
    expected = reference(clock[1:], matches, fixed=fixed)
    found = ours(recurrence, clock[0].moment, clock[-1].moment)
    assert found == expected
