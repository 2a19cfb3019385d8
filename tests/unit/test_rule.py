"""Recurrence rules: as dateutil reads them, in the wall time of their zone, soon found or soon given up."""

import itertools
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from pgreact.timetable import rrule as rules
from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after

ANCHOR = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)


def rule(text: str, zone: str = "UTC", anchor: datetime = ANCHOR) -> Recurrence:
    return Recurrence(rrule=text, timezone=zone, anchor=anchor)


def moments(recurrence: Recurrence, after: datetime) -> Iterator[datetime]:
    found = next_after(recurrence, after)
    while found is not None:
        yield found
        found = next_after(recurrence, found)


def first(count: int, recurrence: Recurrence, after: datetime = ANCHOR - timedelta(days=1)) -> list[str]:
    zone = ZoneInfo(recurrence.timezone)
    found = itertools.islice(moments(recurrence, after), count)
    return [moment.astimezone(zone).strftime("%Y-%m-%d %H:%M") for moment in found]


# ---- what rules mean ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FREQ=DAILY", ["2026-01-01 09:30", "2026-01-02 09:30"]),
        ("RRULE:FREQ=DAILY;INTERVAL=2", ["2026-01-01 09:30", "2026-01-03 09:30"]),
        ("freq=weekly; byday=mo,fr;", ["2026-01-02 09:30", "2026-01-05 09:30"]),
        ("FREQ=MONTHLY;BYDAY=-1FR", ["2026-01-30 09:30", "2026-02-27 09:30"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", ["2026-01-30 09:30", "2026-02-27 09:30"]),
        ("FREQ=MONTHLY;BYMONTHDAY=31", ["2026-01-31 09:30", "2026-03-31 09:30"]),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO;BYHOUR=6;BYMINUTE=0", ["2027-01-04 06:00", "2028-01-03 06:00"]),
        ("FREQ=HOURLY;INTERVAL=5", ["2026-01-01 09:30", "2026-01-01 14:30"]),
    ],
)
def test_a_rule_begins_with_its_anchor(text: str, expected: list[str]) -> None:
    assert first(2, rule(text)) == expected


def test_a_rule_is_read_in_its_zone_and_in_whole_seconds() -> None:
    new_york = rule("FREQ=DAILY", "America/New_York", ANCHOR.replace(microsecond=7))
    assert first(2, new_york) == ["2026-01-01 04:30", "2026-01-02 04:30"]
    summer = next_after(new_york, datetime(2026, 7, 1, tzinfo=UTC))
    assert summer == datetime(2026, 7, 1, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("20260103", "2026-01-03 09:30"),  # a day is meant as a whole
        ("20260103T093000", "2026-01-03 09:30"),
        ("20260103T092959", "2026-01-02 09:30"),
        ("20260103T083000Z", "2026-01-03 09:30"),
        ("20260103T082959Z", "2026-01-02 09:30"),
        ("99991231", "2026-01-20 09:30"),
    ],
)
def test_until_is_the_last_moment_that_is_meant(until: str, last: str) -> None:
    anchor = ANCHOR - timedelta(hours=1)  # 9:30 in Paris
    found = first(20, rule(f"FREQ=DAILY;UNTIL={until}", "Europe/Paris", anchor), anchor - timedelta(days=1))
    assert found[-1] == last


@pytest.mark.parametrize("count", [1, 2, 7])
def test_count_is_counted_from_the_anchor_wherever_one_begins_to_look(count: int) -> None:
    recurrence = rule(f"FREQ=WEEKLY;BYDAY=MO,TH;COUNT={count}")
    found = first(20, recurrence)
    assert len(found) == count
    assert first(20, recurrence, datetime(2026, 1, 4, tzinfo=UTC)) == found[1:]
    assert next_after(recurrence, datetime(2027, 1, 1, tzinfo=UTC)) is None


def test_a_count_that_the_rule_never_reaches_is_no_end() -> None:
    assert len(first(5, rule("FREQ=YEARLY;INTERVAL=100;COUNT=10"))) == 4  # then its calendar ends


# ---- beside dateutil ---------------------------------------------------------------------------------------


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Any rule that is accepted, without an end."""
    freq = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]))
    parts = {"FREQ": freq, "INTERVAL": str(draw(st.sampled_from([1, 1, 2, 3, 4, 5, 12, 25])))}

    def some(name: str, numbers: st.SearchStrategy[int], odds: int = 3) -> None:
        if draw(st.integers(1, odds)) == 1:
            parts[name] = ",".join(map(str, draw(st.lists(numbers, min_size=1, max_size=4, unique=True))))

    some("BYMONTH", st.integers(1, 12))
    some("BYMONTHDAY", st.integers(1, 31) | st.integers(-31, -1))
    some("BYHOUR", st.integers(0, 23))
    some("BYMINUTE", st.integers(0, 59))
    if freq == "YEARLY":
        some("BYYEARDAY", st.integers(1, 366) | st.integers(-366, -1), 6)
        some("BYWEEKNO", st.integers(1, 53) | st.integers(-53, -1), 6)
    if draw(st.integers(1, 3)) == 1:
        days = draw(
            st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=3)
        )
        numbered = freq in {"YEARLY", "MONTHLY"} and "BYWEEKNO" not in parts
        parts["BYDAY"] = ",".join(
            (str(draw(st.sampled_from([1, 2, -1]))) if numbered and draw(st.booleans()) else "") + day
            for day in days
        )
    if freq != "HOURLY" and any(name.startswith("BY") for name in parts):
        some("BYSETPOS", st.integers(1, 5) | st.integers(-5, -1), 4)
    if draw(st.booleans()):
        parts["WKST"] = draw(st.sampled_from(["MO", "SU", "WE"]))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@settings(deadline=None, max_examples=200)
@given(
    texts(),
    st.datetimes(datetime(2019, 1, 1), datetime(2026, 1, 1)),  # noqa: DTZ001
    st.integers(0, 3000),
)
def test_any_rule_means_what_dateutil_says_however_far_from_its_anchor(
    text: str, anchor: datetime, days: int
) -> None:
    anchor = anchor.replace(microsecond=0)
    after = anchor + timedelta(days=days, hours=7)
    try:
        # 7,600 years later: dateutil goes on to the year 9999 for what never comes
        plain = rrulestr(text + ("" if "WKST" in text else ";WKST=MO"), dtstart=_later(anchor, 7600))
        expected = [_later(wall, -7600) for wall in itertools.islice(plain.xafter(_later(after, 7600)), 3)]
        never = not expected and plain.after(_later(anchor, 7600), inc=True) is None
    except ValueError:  # such hours never come
        never = True
    if never:
        with pytest.raises(RecurrenceError):
            next_after(rule(text, anchor=anchor.replace(tzinfo=UTC)), after.replace(tzinfo=UTC))
        return
    found = moments(rule(text, anchor=anchor.replace(tzinfo=UTC)), after.replace(tzinfo=UTC))
    assert [moment.replace(tzinfo=None) for moment in itertools.islice(found, 3)] == expected


def _later(wall: datetime, years: int) -> datetime:
    return wall.replace(year=wall.year + years)


# ---- never a hang ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;INTERVAL=5;BYMONTH=2;BYMONTHDAY=-30",
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO",  # the anchor is a Thursday
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=DAILY;BYSETPOS=5",
        "FREQ=DAILY;INTERVAL=100000;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=3",
        "FREQ=DAILY;UNTIL=20251231",
    ],
)
def test_a_rule_without_occurrences_is_refused_at_the_end_of_the_calendar(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is put near: dateutil looks at fewer than 400 years."""
    years: list[int] = []
    plain = rules.rrulestr

    def noted(text: str, dtstart: datetime) -> object:
        years.append(dtstart.year)
        return plain(text, dtstart=dtstart)

    monkeypatch.setattr(rules, "rrulestr", noted)
    rules._matching.cache_clear()
    with pytest.raises(RecurrenceError, match="never occurs: it begins at 2026-01-01 09:30:01 in UTC"):
        next_after(rule(text, anchor=ANCHOR + timedelta(seconds=1)), ANCHOR)
    assert years == [2026 + 7600]


def test_the_calendar_that_is_put_near_is_the_same() -> None:
    """29 February and the days of the week, over the century that has no leap day."""
    recurrence = rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", anchor=datetime(2090, 1, 1, tzinfo=UTC))
    assert first(3, recurrence, datetime(2090, 1, 1, tzinfo=UTC)) == [
        "2092-02-29 00:00",
        "2096-02-29 00:00",
        "2104-02-29 00:00",
    ]
    assert next_after(recurrence, datetime(2399, 1, 1, tzinfo=UTC)) is None
    assert next_after(recurrence, datetime(9000, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("freq", "anchor", "longest"),
    [
        ("HOURLY", ANCHOR, timedelta(hours=2)),
        ("DAILY", ANCHOR, timedelta(days=2)),
        ("WEEKLY", ANCHOR, timedelta(weeks=2)),
        ("MONTHLY", ANCHOR, timedelta(days=62)),
        ("MONTHLY", ANCHOR.replace(day=31), timedelta(days=93)),
        ("YEARLY", ANCHOR, timedelta(days=731)),
        ("YEARLY", datetime(2024, 2, 29, tzinfo=UTC), timedelta(days=5 * 366)),
    ],
)
def test_far_from_its_anchor_a_rule_is_sought_from_near_by(
    freq: str, anchor: datetime, longest: timedelta
) -> None:
    begin = anchor.replace(tzinfo=None)
    for days in range(9000, 9400, 7):
        sought = begin + timedelta(days=days)
        assert timedelta(0) <= sought - rules._nearer(freq, 1, begin, sought) <= longest


# ---- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", 'unknown part ""; known are FREQ, '),
        ("FREQ", 'invalid FREQ ""; allowed: YEARLY, '),
        ("INTERVAL=2", "FREQ is missing; allowed: YEARLY, "),
        (
            "FREQ=MINUTELY",
            'invalid FREQ "MINUTELY"; allowed: YEARLY, MONTHLY, WEEKLY, DAILY or HOURLY; for less',
        ),
        ("FREQ=SECONDLY;INTERVAL=30", "for less than an hour use every or cron"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "unknown part"),
        ("FREQ=DAILY;BYEASTER=0", 'unknown part "BYEASTER=0"'),
        ("FREQ=DAILY;DTSTART=20260101", 'unknown part "DTSTART=20260101"'),
        ("FREQ=DAILY;FREQ=WEEKLY", "FREQ occurs twice"),
        ("FREQ=DAILY;INTERVAL=0", 'invalid INTERVAL "0"; allowed: 1 to 100000'),
        ("FREQ=DAILY;INTERVAL=1,2", 'invalid INTERVAL "1,2"'),
        ("FREQ=DAILY;COUNT=0", 'invalid COUNT "0"; allowed: 1 to 100000; beyond that use UNTIL or max_runs'),
        ("FREQ=DAILY;COUNT=100001", "use UNTIL or max_runs"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "UNTIL and COUNT exclude each other"),
        ("FREQ=DAILY;UNTIL=tomorrow", 'invalid UNTIL "TOMORROW"; allowed: 20270131, '),
        ("FREQ=DAILY;UNTIL=20270231", 'UNTIL "20270231" is not a day'),
        ("FREQ=DAILY;BYHOUR=24", 'invalid BYHOUR "24"; allowed: 0 to 23'),
        ("FREQ=DAILY;BYMINUTE=1_0", 'invalid BYMINUTE "1_0"'),
        ("FREQ=MONTHLY;BYMONTHDAY=0", 'invalid BYMONTHDAY "0"; allowed: 1 to 31, or -31 to -1 from the end'),
        ("FREQ=MONTHLY;BYDAY=XX", 'invalid BYDAY "XX"; allowed: MO, TU'),
        ("FREQ=MONTHLY;BYDAY=0MO", 'invalid BYDAY "0MO"'),
        ("FREQ=WEEKLY;BYDAY=1MO", "BYDAY takes numbers only with YEARLY and MONTHLY"),
        ("FREQ=HOURLY;BYSETPOS=1;BYMINUTE=1,2", "BYSETPOS cannot be used with HOURLY"),
        ("FREQ=HOURLY;INTERVAL=6;BYHOUR=4", "generates an empty set"),
    ],
)
def test_a_refused_rule_names_the_part_and_its_valid_values(text: str, says: str) -> None:
    with pytest.raises(RecurrenceError) as caught:
        next_after(rule(text), ANCHOR)
    assert str(caught.value).startswith(f'rrule "{text}"')
    assert says in str(caught.value)


def test_a_rule_in_a_zone_that_is_not_known_is_refused() -> None:
    with pytest.raises(RecurrenceError, match="Europe/Parys"):
        next_after(rule("FREQ=DAILY", "Europe/Parys"), ANCHOR)


@given(
    st.from_regex(re.compile(r"(RRULE:)?(FREQ|BYDAY|COUNT|UNTIL|WKST)=[A-Z0-9,;=+-]{0,20}"), fullmatch=True)
)
def test_any_text_is_understood_or_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = next_after(rule(text), ANCHOR)
        except RecurrenceError:
            return
    assert found is None or found > ANCHOR
