"""What recurs besides cron and rules: the grid, what happens once, and the sun."""

import sys
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from celery.schedules import solar as celery_solar
from hypothesis import given
from hypothesis import strategies as st

from pgreact.errors import PgreactError
from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def every(microseconds: int, anchor: datetime = NOON) -> Recurrence:
    return Recurrence(every_us=microseconds, anchor=anchor)


# ---- every -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-DAY, HOUR),  # the anchor itself is no occurrence
        (-MICROSECOND, HOUR),
        (timedelta(0), HOUR),
        (HOUR - MICROSECOND, HOUR),
        (HOUR, 2 * HOUR),
        (1000 * HOUR + MICROSECOND, 1001 * HOUR),
    ],
)
def test_a_grid_lies_where_its_anchor_puts_it(after: timedelta, expected: timedelta) -> None:
    assert next_after(every(3600 * 10**6), NOON + after) == NOON + expected


def test_a_grid_does_not_drift_in_ten_years() -> None:
    third = every(333_333)
    far = NOON + 3650 * DAY
    found = next_after(third, far)
    assert found is not None
    assert (found - NOON) % (333_333 * MICROSECOND) == timedelta(0)
    assert timedelta(0) < found - far <= 333_333 * MICROSECOND


def test_a_grid_knows_no_time_zone() -> None:
    plus5 = timezone(timedelta(hours=5))
    found = next_after(every(3600 * 10**6, NOON.astimezone(plus5)), NOON.astimezone(plus5))
    assert found == NOON + HOUR
    assert found.tzinfo is UTC


@given(
    st.integers(1, 10**12),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
)
def test_the_next_of_a_grid_is_later_and_the_one_before_is_not(
    microseconds: int, anchor: datetime, after: datetime
) -> None:
    anchor, after = anchor.replace(tzinfo=UTC), after.replace(tzinfo=UTC)
    found = next_after(every(microseconds, anchor), after)
    assert found is not None
    assert found > max(after, anchor)
    before = found - microseconds * MICROSECOND
    assert before == anchor if before <= anchor else before <= after


def test_a_grid_that_leaves_the_calendar_ends() -> None:
    assert next_after(every(10**15), datetime(9990, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("microseconds", [0, -1])
def test_a_grid_needs_a_width(microseconds: int) -> None:
    with pytest.raises(RecurrenceError, match="every must be positive, not "):
        next_after(every(microseconds), NOON)


# ---- at, and what is wrong ---------------------------------------------------------------------------------


def test_a_one_off_has_one_occurrence() -> None:
    once = Recurrence(at=NOON, anchor=NOON - DAY)
    assert next_after(once, NOON - MICROSECOND) == NOON
    assert next_after(once, NOON) is None


def test_something_must_recur() -> None:
    with pytest.raises(RecurrenceError, match="set one of every, cron, at, solar and rrule"):
        next_after(Recurrence(anchor=NOON), NOON)


def test_a_recurrence_is_a_value_and_its_error_one_of_ours() -> None:
    assert hash(every(5)) == hash(every(5))
    assert issubclass(RecurrenceError, PgreactError)


# ---- solar -------------------------------------------------------------------------------------------------

EVENTS = [
    *("dawn_astronomical", "dawn_nautical", "dawn_civil", "sunrise", "solar_noon"),
    *("sunset", "dusk_civil", "dusk_nautical", "dusk_astronomical"),
]
PLACES = [(48.85, 2.35), (-33.87, 151.21), (0.0, 0.0), (40.71, -74.01), (21.3, -157.86), (-17.8, 179.9)]


def sun(event: str, latitude: float = 48.85, longitude: float = 2.35) -> Recurrence:
    return Recurrence(solar=f"{event} {latitude} {longitude}", anchor=NOON)


def celerys(event: str, latitude: float, longitude: float, after: datetime) -> datetime:
    """Return when Celery's own schedule would run next."""
    schedule = celery_solar(event, latitude, longitude, app=_utc(), nowfun=lambda: after)
    return after + schedule.remaining_estimate(after)


def _utc() -> Any:
    """A Celery app, as far as schedules look at it."""
    return SimpleNamespace(
        timezone=UTC, uses_utc_timezone=lambda: True, conf=SimpleNamespace(enable_utc=True)
    )


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("latitude", "longitude"), PLACES)
def test_the_sun_stands_where_celery_sees_it(event: str, latitude: float, longitude: float) -> None:
    for day in range(0, 365, 26):
        after = NOON + day * (DAY + 997 * SECOND)
        found = next_after(sun(event, latitude, longitude), after)
        assert found is not None
        assert abs(found - celerys(event, latitude, longitude, after)) < 2 * SECOND


@pytest.mark.parametrize("event", EVENTS)
def test_in_high_latitudes_the_next_event_that_exists_is_celerys_too(event: str) -> None:
    for month in range(1, 13):
        after = datetime(2026, month, 5, 3, tzinfo=UTC)
        found = next_after(sun(event, 69.65, 18.96), after)
        assert found is not None
        assert abs(found - celerys(event, 69.65, 18.96, after)) < 2 * SECOND, after


def test_polar_night_is_passed_over() -> None:
    last = next_after(sun("sunrise", 78.22, 15.65), datetime(2026, 10, 25, tzinfo=UTC))
    assert last is not None
    assert last.date().isoformat() == "2026-10-25"
    found = next_after(sun("sunrise", 78.22, 15.65), datetime(2026, 11, 10, tzinfo=UTC))
    assert found is not None
    assert found.date().isoformat() == "2027-02-16"


@pytest.mark.parametrize("longitude", [-179.5, -165.0, 15.0])  # noon here is midnight, or 23:00, or 11:00 UTC
@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_once_a_day_wherever_one_begins_to_look(event: str, longitude: float) -> None:
    recurrence = sun(event, 40, longitude)
    found = next_after(recurrence, NOON)
    for _ in range(365):
        assert found is not None
        later = next_after(recurrence, found)
        assert later is not None
        assert timedelta(hours=23) < later - found < timedelta(hours=25)
        assert (
            next_after(recurrence, found - SECOND) == later
        )  # the same, reckoned a little earlier elsewhere
        assert next_after(recurrence, found + timedelta(hours=7)) == later
        found = later


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sunset", "write an event, a latitude and a longitude"),
        ("sunset 48.85 2.35 3", "write an event, a latitude and a longitude"),
        ("moonrise 48.85 2.35", 'unknown event "moonrise"; known are dawn_astronomical, '),
        ("sunset 90.1 0", 'invalid latitude "90.1"; allowed: -90 to 90 degrees'),
        ("sunset 0 -181", 'invalid longitude "-181"; allowed: -180 to 180 degrees'),
        ("sunset nan 0", 'invalid latitude "nan"'),
        ("sunset 48,85 2,35", 'invalid latitude "48,85"'),
    ],
)
def test_a_place_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(RecurrenceError) as caught:
        next_after(Recurrence(solar=text, anchor=NOON), NOON)
    assert str(caught.value).startswith(f'solar "{text}"')
    assert says in str(caught.value)


def test_without_its_library_the_sun_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ephem", None)
    with pytest.raises(RecurrenceError, match=r"pip install 'pgreact\[solar\]'"):
        next_after(sun("sunset", 1.25, 2.5), NOON)


@pytest.mark.parametrize("latitude", [-89.5, 89.5])
@pytest.mark.parametrize("event", ["dawn_astronomical", "dawn_civil", "sunrise", "sunset", "dusk_nautical"])
@pytest.mark.parametrize("longitude", [-180, 0, 77])
def test_as_near_to_a_pole_as_is_taken_each_event_happens_sometime(
    event: str, latitude: float, longitude: int
) -> None:
    for year in (2026, 2030):
        place = Recurrence(solar=f"{event} {latitude} {longitude}", anchor=NOON)
        assert next_after(place, datetime(year, 1, 1, tzinfo=UTC)) is not None


def test_nearer_to_a_pole_it_is_refused() -> None:
    with pytest.raises(RecurrenceError, match="may never occur"):
        next_after(Recurrence(solar="sunset 89.9 10", anchor=NOON), NOON)
    assert next_after(Recurrence(solar="solar_noon 90 0", anchor=NOON), NOON) is not None
