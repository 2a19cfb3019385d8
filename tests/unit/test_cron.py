"""Cron expressions: what their fields say, what is refused and how, and what they do at changes of offset."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgreact.timetable import local_time
from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after

YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def cron(text: str, zone: str = "UTC", *, both: bool = False) -> Recurrence:
    return Recurrence(cron=text, cron_and=both, timezone=zone, anchor=YEAR)


def moments(recurrence: Recurrence, moment: datetime | None) -> Iterator[datetime | None]:
    """Yield each occurrence later than a moment; at last ``None`` if there is a last one."""
    while moment is not None:
        moment = next_after(recurrence, moment)
        yield moment


def runs(text: str, begin: str, zone: str = "UTC", *, both: bool = False) -> Iterator[str]:
    """Yield what the clocks of the zone show at each run after they show this."""
    after = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone))
    for moment in moments(cron(text, zone, both=both), after):
        if moment is not None:
            yield moment.astimezone(ZoneInfo(zone)).strftime("%a %m-%d %H:%M:%S").removesuffix(":00")


def first(
    count: int, text: str, begin: str = "2026-01-01", zone: str = "UTC", *, both: bool = False
) -> list[str]:
    return list(itertools.islice(runs(text, begin, zone, both=both), count))


# ---- fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["Thu 01-01 00:01", "Thu 01-01 00:02"]),
        ("*/15 * * * *", ["Thu 01-01 00:15", "Thu 01-01 00:30"]),
        ("7 * * * *", ["Thu 01-01 00:07", "Thu 01-01 01:07"]),
        ("30 7 * * *", ["Thu 01-01 07:30", "Fri 01-02 07:30"]),
        ("0 0,12 * * *", ["Thu 01-01 12:00", "Fri 01-02 00:00"]),
        ("5-20/5 3 * * *", ["Thu 01-01 03:05", "Thu 01-01 03:10"]),
        ("50/5 3 * * *", ["Thu 01-01 03:50", "Thu 01-01 03:55"]),
        ("5-5/5 3 * * *", ["Thu 01-01 03:05", "Fri 01-02 03:05"]),
        ("*/100 3 * * *", ["Thu 01-01 03:00", "Fri 01-02 03:00"]),
        ("0 0 * * 1", ["Mon 01-05 00:00", "Mon 01-12 00:00"]),
        ("0 0 * * 0", ["Sun 01-04 00:00", "Sun 01-11 00:00"]),
        ("0 0 * * 7", ["Sun 01-04 00:00", "Sun 01-11 00:00"]),
        ("0 0 * * 6-7", ["Sat 01-03 00:00", "Sun 01-04 00:00"]),
        ("0 0 * * 0-7", ["Fri 01-02 00:00", "Sat 01-03 00:00"]),
        ("0 0 1 */3 *", ["Wed 04-01 00:00", "Wed 07-01 00:00"]),
        ("0 0 29 2 *", ["Tue 02-29 00:00", "Sun 02-29 00:00"]),
        ("0 0 31 * *", ["Sat 01-31 00:00", "Tue 03-31 00:00"]),
        ("0 0 L * *", ["Sat 01-31 00:00", "Sat 02-28 00:00"]),
        ("0 0 LW * *", ["Fri 01-30 00:00", "Fri 02-27 00:00"]),
        ("0 0 * * 5L", ["Fri 01-30 00:00", "Fri 02-27 00:00"]),
        ("0 0 * * 5#2", ["Fri 01-09 00:00", "Fri 02-13 00:00"]),
    ],
)
def test_fields_as_crontabs_have_them(text: str, expected: list[str]) -> None:
    assert first(len(expected), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 22-2/2 * * *", ["Thu 01-01 02:00", "Thu 01-01 22:00", "Fri 01-02 00:00", "Fri 01-02 02:00"]),
        ("58-1 3 * * *", ["Thu 01-01 03:00", "Thu 01-01 03:01", "Thu 01-01 03:58", "Thu 01-01 03:59"]),
        ("0 0 * * fri-mon", ["Fri 01-02 00:00", "Sat 01-03 00:00", "Sun 01-04 00:00", "Mon 01-05 00:00"]),
        ("0 0 * * fri-mon/2", ["Fri 01-02 00:00", "Sun 01-04 00:00", "Fri 01-09 00:00"]),
        ("0 0 * * sat-sun", ["Sat 01-03 00:00", "Sun 01-04 00:00", "Sat 01-10 00:00"]),
        ("0 0 * * 7-2", ["Sun 01-04 00:00", "Mon 01-05 00:00", "Tue 01-06 00:00", "Sun 01-11 00:00"]),
        ("0 0 30-2 * *", ["Fri 01-02 00:00", "Fri 01-30 00:00", "Sat 01-31 00:00", "Sun 02-01 00:00"]),
        ("0 0 1 nov-feb *", ["Sun 02-01 00:00", "Sun 11-01 00:00", "Tue 12-01 00:00", "Fri 01-01 00:00"]),
    ],
)
def test_ranges_wrap(text: str, expected: list[str]) -> None:
    assert first(len(expected), text) == expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0 0 * * Mon,WED,fri", "0 0 * * 1,3,5"),
        ("0 0 * * sunday", "0 0 * * 0"),
        ("0 0 * * Tuesday-thursday", "0 0 * * 2-4"),
        ("0 0 * * friL", "0 0 * * 5L"),
        ("0 0 * * Fri#2", "0 0 * * 5#2"),
        ("0 0 1 JAN,september *", "0 0 1 1,9 *"),
        ("  0\t0   * * 1 \n", "0 0 * * 1"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@Daily ", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_names_are_numbers(text: str, same: str) -> None:
    assert first(5, text) == first(5, same)


def test_six_fields_begin_with_the_second() -> None:
    assert first(3, "*/20 30 4 * * *") == ["Thu 01-01 04:30", "Thu 01-01 04:30:20", "Thu 01-01 04:30:40"]


def test_fractions_of_a_second_make_no_difference() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for fraction in (0, 1, 999_999):
        assert next_after(cron("0 12 * * *"), noon.replace(microsecond=fraction)) == noon + timedelta(days=1)
    assert next_after(cron("0 12 * * *"), noon - timedelta(microseconds=1)) == noon
    assert local_time.local_time(noon.replace(microsecond=1), ZoneInfo("UTC")) == noon.replace(tzinfo=None)


# ---- days --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("both", "count"), [(False, 61), (True, 3)])
def test_two_fields_of_days_are_either_in_cron_and_both_in_celery(both: bool, count: int) -> None:
    found = itertools.takewhile(
        lambda moment: moment is not None and moment.year == 2026,
        moments(cron("0 0 13 * 5", both=both), YEAR),
    )
    assert sum(1 for _ in found) == count


@pytest.mark.parametrize("text", ["0 0 */2 * 1", "0 0 1-31/2 * *"])
def test_a_star_in_one_of_them_asks_for_both(text: str) -> None:
    """As in Debian, a step of a star is a star."""
    assert all(int(run[7:9]) % 2 == 1 for run in first(20, text))
    assert first(5, text) == first(5, text, both=True)


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 feb */2", "5 0 0 30 2 *"])
def test_an_expression_without_occurrences_is_refused(text: str) -> None:
    for both in (False, True):
        with pytest.raises(RecurrenceError, match=re.escape(f'cron "{text}" never occurs: no day is "')):
            next_after(cron(text, both=both), YEAR)


def test_an_occurrence_once_in_decades_is_found() -> None:
    assert next_after(cron("0 0 29 2 1", both=True), YEAR) == datetime(2044, 2, 29, tzinfo=UTC)
    with pytest.raises(RecurrenceError, match="never occurs"):
        next_after(cron("0 0 30 2 1", both=True), YEAR)


def test_time_ends() -> None:
    assert next_after(cron("0 0 1 1 *"), datetime(9999, 6, 1, tzinfo=UTC)) is None


# ---- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60 * * * *", 'invalid minute "60"; allowed: 0 to 59'),
        ("0 24 * * *", 'invalid hour "24"; allowed: 0 to 23'),
        ("0 0 0 * *", 'invalid day-of-month "0"; allowed: 1 to 31'),
        ("0 0 12,32 * *", 'invalid day-of-month "12,32"'),
        ("0 0 0-5 * *", 'invalid day-of-month "0-5"'),
        ("0 0 * 0 *", 'invalid month "0"; allowed: 1 to 12'),
        ("0 0 * 1-13 *", 'invalid month "1-13"'),
        ("0 0 * juno *", 'invalid month "juno"'),
        ("0 0 * janfeb *", 'invalid month "janfeb"'),
        ("0 0 * aprl *", 'invalid month "aprl"'),
        ("0 0 * * 8", 'invalid day-of-week "8"; allowed: 0 to 7'),
        ("0 0 * jan1 *", 'invalid month "jan1"'),
        ("0 0 * 1feb *", 'invalid month "1feb"'),
        ("0 0 * * sun1", 'invalid day-of-week "sun1"'),
        ("0 0 * * foobarbaz", 'invalid day-of-week "foobarbaz"'),
        ("0 0 * * 5#6", 'invalid day-of-week "5#6"'),
        ("mon 0 * * *", 'invalid minute "mon"'),
        ("60 0 0 * * *", 'invalid second "60"; allowed: 0 to 59'),
        ("*/0 * * * *", 'invalid minute "*/0"'),
        ("1-5/0 * * * *", 'invalid minute "1-5/0"'),
        ("*/ * * * *", 'invalid minute "*/"'),
        ("1, * * * *", 'invalid minute "1,"'),
        ("-1 * * * *", 'invalid minute "-1"'),
        ("1-2-3 * * * *", 'invalid minute "1-2-3"'),
        ("٣ * * * *", 'invalid minute "٣"'),
        ("? * * * *", 'invalid minute "?"'),
        ("", 'cron "" has 0 fields: write five'),
        ("* * * *", "has 4 fields: write five"),
        ("* * * * * * 2027", "has 7 fields: write five"),
        ("@reboot", "nothing is booted"),
        ("@fortnightly", "no such name; known are @yearly"),
    ],
)
def test_a_refused_expression_names_the_field_and_its_valid_values(text: str, says: str) -> None:
    for both in (False, True):
        with pytest.raises(RecurrenceError) as caught:
            next_after(cron(text, both=both), YEAR)
        assert str(caught.value).startswith(f'cron "{text}"')
        assert says in str(caught.value)


@pytest.mark.parametrize(
    "zone", ["Europe/Parys", "Europe", "", "../etc/passwd", "/etc/passwd", "a\0b", "europe/paris "]
)
def test_a_zone_that_is_not_known_is_refused(zone: str) -> None:
    with pytest.raises(RecurrenceError, match="is not known here: write an IANA name"):
        next_after(cron("* * * * *", zone), YEAR)


@given(st.text("0123456789*/,-#lLwW?@ \tjanfrisu", max_size=20) | st.text(max_size=12))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = next_after(cron(text), YEAR)
    except RecurrenceError:
        return
    assert found is None or found > YEAR


# ---- changes of offset -------------------------------------------------------------------------------------

PARIS, YORK, HOWE, CHILE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago"
SPRING, AUTUMN = "2026-03-29", "2026-10-25"  # the days on which Paris changes, at 2:00 and at 3:00


@pytest.mark.parametrize(
    ("text", "zone", "day", "expected"),
    [
        # fixed: what is skipped runs right after the gap
        ("30 2 * * *", PARIS, SPRING, "03:00+2"),
        ("10,40 2 * * *", PARIS, SPRING, "03:00+2"),
        ("30 2,3 * * *", PARIS, SPRING, "03:00+2 03:30+2"),
        ("0 2,3 * * *", PARIS, SPRING, "03:00+2"),
        ("30 1-4 * * *", PARIS, SPRING, "01:30+1 03:00+2 03:30+2 04:30+2"),
        ("0 0 * * *", CHILE, "2026-09-06", "01:00-3"),
        # fixed: what comes twice runs the first time
        ("30 2 * * *", PARIS, AUTUMN, "02:30+2"),
        ("30 1-4 * * *", PARIS, AUTUMN, "01:30+2 02:30+2 03:30+1 04:30+1"),
        ("30 1 * * *", YORK, "2026-11-01", "01:30-4"),
        # by the clock: what is skipped is skipped, what comes twice runs twice
        ("30 * * * *", PARIS, SPRING, "00:30+1 01:30+1 03:30+2 04:30+2"),
        ("30 * * * *", PARIS, AUTUMN, "00:30+2 01:30+2 02:30+2 02:30+1 03:30+1 04:30+1"),
        ("0 */2 * * *", PARIS, SPRING, "00:00+1 04:00+2"),
        ("0 */2 * * *", PARIS, AUTUMN, "00:00+2 02:00+2 02:00+1 04:00+1"),
        ("*/30 2 * * *", PARIS, SPRING, ""),
        ("*/30 2 * * *", PARIS, AUTUMN, "02:00+2 02:30+2 02:00+1 02:30+1"),
        # a change by half an hour
        ("45 1 * * *", HOWE, "2026-04-05", "01:45+11"),
        ("*/15 1 * * *", HOWE, "2026-04-05", "01:00+11 01:15+11 01:30+11 01:45+11 01:30+10.5 01:45+10.5"),
        ("15 2 * * *", HOWE, "2026-10-04", "02:30+11"),
        # with seconds: the same
        ("15 30 2 * * *", PARIS, SPRING, "03:00+2"),
        ("15 30 2 * * *", PARIS, AUTUMN, "02:30:15+2"),
    ],
)
def test_the_day_of_a_change(text: str, zone: str, day: str, expected: str) -> None:
    where = ZoneInfo(zone)
    begin = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=where)
    end = begin.replace(hour=5)
    found = []
    for moment in moments(cron(text, zone), begin.astimezone(UTC) - timedelta(seconds=1)):
        if moment is None or moment >= end.astimezone(UTC):
            break
        local = moment.astimezone(where)
        shift = (local.utcoffset() or timedelta()) / timedelta(hours=1)
        found.append(f"{local:%H:%M:%S}".removesuffix(":00") + f"{shift:+g}")
    assert " ".join(found) == expected


def test_every_20_minutes_is_every_20_minutes_all_autumn_night() -> None:
    """Celery's crontab is silent for an hour here."""
    begin, end = datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 25, 4, 20, tzinfo=UTC)
    found = list(
        itertools.takewhile(
            lambda moment: moment and moment < end, moments(cron("*/20 * * * *", PARIS), begin)
        )
    )
    assert found == [begin + number * timedelta(minutes=20) for number in range(1, 16)]
