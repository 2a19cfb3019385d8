"""What a schedule does now: what is due, what was missed, what comes next."""

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgreact.timetable import planner
from pgreact.timetable.planner import Plan, Schedule, actual, following, plan, replan
from pgreact.timetable.recurrence import Recurrence

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=number) for number in (1, 60, 3600, 86400))
MICROSECOND = timedelta(microseconds=1)
JITTERED = datetime(2026, 5, 1, 12, 21, 8, 220270, tzinfo=UTC)  # of "report" at noon, within an hour


def at(clock: str, day: int = 1) -> datetime:
    """A moment of May 2026, such as ``12:30`` or ``12:30:15``."""
    hour, minute, second = (*map(int, clock.split(":")), 0)[:3]
    return datetime(2026, 5, day, hour, minute, second, tzinfo=UTC)


def hourly(**changes: Any) -> Schedule:
    """A schedule that runs at each full hour, and is planned for noon."""
    values = {
        "id": 1,
        "name": "hourly",
        "revision": 7,
        "state": "planned",
        "recurrence": Recurrence(every_us=3600 * 10**6, anchor=NOON - DAY),
        "next_nominal_at": NOON,
        "next_run_at": NOON,
        "last_nominal_at": NOON - HOUR,
    } | changes
    return Schedule(**values)


def new(recurrence: Recurrence, **changes: Any) -> Schedule:
    """A schedule that was just written."""
    return Schedule(
        **{"id": 1, "name": "new", "revision": 0, "state": "new", "recurrence": recurrence, **changes}
    )


def once(moment: datetime, **changes: Any) -> Schedule:
    return new(Recurrence(at=moment, anchor=NOON - DAY), **changes)


def planned(schedule: Schedule, found: Plan) -> Schedule:
    """The schedule as its row is after a plan was carried out."""
    return dataclasses.replace(
        schedule,
        state=found.state,
        next_nominal_at=found.next_nominal_at,
        next_run_at=found.next_run_at,
        last_nominal_at=found.last_nominal_at,
        run_count=schedule.run_count + len(found.occurrences),
        revision=schedule.revision + 1,
    )


# ---- a new schedule ----------------------------------------------------------------------------------------


def test_a_new_schedule_fires_nothing_and_waits_for_the_first_occurrence_after_now() -> None:
    schedule = new(Recurrence(cron="0 * * * *", anchor=NOON - DAY))
    assert plan(schedule, NOON) == Plan(
        state="planned", next_nominal_at=at("13:00"), next_run_at=at("13:00"), last_nominal_at=None
    )


def test_a_new_grid_begins_one_period_after_its_anchor() -> None:
    schedule = new(Recurrence(every_us=3600 * 10**6, anchor=NOON))
    assert plan(schedule, NOON - MINUTE).next_run_at == at("13:00")
    assert plan(schedule, NOON).next_run_at == at("13:00")


def test_a_grid_anchored_at_its_start_begins_with_the_start() -> None:
    schedule = new(Recurrence(every_us=3600 * 10**6, anchor=NOON), start_at=NOON)
    assert plan(schedule, NOON - DAY).next_run_at == NOON
    assert plan(schedule, NOON).next_run_at == at("13:00")


@pytest.mark.parametrize(
    ("recurrence", "expected"),
    [
        (Recurrence(cron="*/30 * * * *", anchor=NOON - DAY), at("14:00")),
        (Recurrence(cron="45 * * * *", anchor=NOON - DAY), at("14:45")),
        (Recurrence(every_us=1800 * 10**6, anchor=NOON - DAY), at("14:00")),
        (Recurrence(rrule="FREQ=HOURLY", anchor=at("14:00")), at("14:00")),
        (Recurrence(at=at("14:00"), anchor=NOON), at("14:00")),
    ],
)
def test_the_start_counts_if_it_is_an_occurrence(recurrence: Recurrence, expected: datetime) -> None:
    assert plan(new(recurrence, start_at=at("14:00")), NOON).next_run_at == expected


@pytest.mark.parametrize(
    ("clock", "expected"), [("12:59", at("13:00")), ("13:00", None), ("13:00:01", None), ("15:00", None)]
)
def test_the_end_counts_if_it_is_an_occurrence(clock: str, expected: datetime | None) -> None:
    found = plan(new(Recurrence(cron="0 * * * *", anchor=NOON), end_at=at("13:00")), at(clock))
    assert found.next_run_at == expected
    assert found.state == ("ended" if expected is None else "planned")


def test_recurrence_that_never_occurs_fails_with_the_reason() -> None:
    found = plan(new(Recurrence(cron="0 0 30 2 *", anchor=NOON)), NOON)
    assert found.state == "failed"
    assert (found.error or "").startswith('cron "0 0 30 2 *" never occurs')


def test_an_edited_schedule_repeats_nothing_though_the_clock_was_put_back() -> None:
    schedule = new(Recurrence(cron="0 * * * *", anchor=NOON), last_nominal_at=at("15:00"))
    assert plan(schedule, NOON).next_run_at == at("16:00")


def test_edit_drops_missed_occurrences() -> None:
    schedule = new(Recurrence(cron="0 * * * *", anchor=NOON), last_nominal_at=at("06:00"), misfire="all")
    found = plan(schedule, at("12:30"))
    assert (found.occurrences, found.missed, found.next_run_at) == ((), 0, at("13:00"))


@pytest.mark.parametrize("state", ["new", "planned"])
def test_a_plan_without_a_next_run_is_made_anew(state: planner.State) -> None:
    assert plan(hourly(state=state, next_nominal_at=None, next_run_at=None), NOON).next_run_at == at("13:00")


# ---- once --------------------------------------------------------------------------------------------------


def test_one_off_waits_for_its_time_and_ends_with_it() -> None:
    schedule = once(at("13:00"))
    found = plan(schedule, NOON)
    assert (found.occurrences, found.state, found.next_run_at) == ((), "planned", at("13:00"))
    found = plan(planned(schedule, found), at("13:00"))
    assert found == Plan(occurrences=(at("13:00"),), state="ended", last_nominal_at=at("13:00"))


@pytest.mark.parametrize(
    ("misfire", "clock", "fired", "missed", "late"),
    [
        ("coalesce", "12:00", 1, 0, False),
        ("coalesce", "15:00", 1, 0, True),
        ("all", "15:00", 1, 0, True),
        ("skip", "12:01", 1, 0, False),
        ("skip", "12:01:01", 0, 1, True),
        ("skip", "15:00", 0, 1, True),
    ],
)
def test_one_off_in_the_past_is_due(
    misfire: planner.Misfire, clock: str, fired: int, missed: int, late: bool
) -> None:
    found = plan(once(NOON, misfire=misfire), at(clock))
    assert found == Plan(
        occurrences=(NOON,) * fired, state="ended", last_nominal_at=NOON, missed=missed, late=late
    )


def test_fired_one_off_is_not_fired_again_unless_it_is_postponed() -> None:
    ended = Plan(state="ended", last_nominal_at=NOON)
    assert plan(once(NOON, last_nominal_at=NOON), at("13:00")) == ended
    assert plan(once(at("11:00"), last_nominal_at=NOON), at("13:00")) == ended
    assert plan(once(at("12:30"), last_nominal_at=NOON), at("12:15")).next_run_at == at("12:30")
    assert plan(once(at("12:30"), last_nominal_at=NOON), at("13:00")).occurrences == (at("12:30"),)


def test_one_off_fired_by_a_clock_far_ahead_is_not_fired_again_unless_it_is_moved() -> None:
    far = NOON + 300 * DAY
    assert plan(once(far, last_nominal_at=far), NOON) == Plan(state="ended", last_nominal_at=far)
    assert plan(once(far - DAY, last_nominal_at=far), NOON).next_run_at == far - DAY
    assert plan(once(NOON, last_nominal_at=far), NOON).occurrences == (NOON,)


def test_one_off_outside_its_bounds_never_fires() -> None:
    assert plan(once(NOON, start_at=at("12:01")), at("11:00")).state == "ended"
    assert plan(once(NOON, end_at=at("11:59")), at("13:00")) == Plan(state="ended", last_nominal_at=None)
    assert plan(once(NOON, max_runs=3, run_count=3), at("13:00")) == Plan(state="ended", last_nominal_at=None)


# ---- due ---------------------------------------------------------------------------------------------------


def test_due_occurrence_is_fired_and_the_next_planned() -> None:
    assert plan(hourly(), NOON + SECOND) == Plan(
        occurrences=(NOON,),
        state="planned",
        next_nominal_at=at("13:00"),
        next_run_at=at("13:00"),
        last_nominal_at=NOON,
    )


@pytest.mark.parametrize("misfire", ["coalesce", "skip", "all"])
def test_on_time_every_policy_does_the_same(misfire: planner.Misfire) -> None:
    for now in (NOON, NOON + MINUTE):
        found = plan(hourly(misfire=misfire), now)
        assert (found.occurrences, found.missed, found.late) == ((NOON,), 0, False)


def test_nothing_is_fired_before_its_time() -> None:
    schedule = hourly()
    for now in (NOON - MICROSECOND, NOON - DAY):  # or the clock was put back
        assert plan(schedule, now) == Plan(
            state="planned", next_nominal_at=NOON, next_run_at=NOON, last_nominal_at=NOON - HOUR
        )


@pytest.mark.parametrize("recurrence", [hourly().recurrence, Recurrence(cron="0 * * * *", anchor=NOON - DAY)])
@pytest.mark.parametrize(
    ("misfire", "clock", "fired", "missed", "late"),
    [
        ("coalesce", "12:01:01", ["12:00"], 0, True),
        ("coalesce", "15:30", ["15:00"], 3, True),
        ("coalesce", "15:00:30", ["15:00"], 3, True),
        ("skip", "12:01:01", [], 1, True),
        ("skip", "15:30", [], 4, True),
        ("skip", "15:01:01", [], 4, True),
        ("skip", "15:01", ["15:00"], 3, True),
        ("all", "12:01:01", ["12:00"], 0, True),
        ("all", "15:30", ["12:00", "13:00", "14:00", "15:00"], 0, True),
        ("all", "18:30", ["14:00", "15:00", "16:00", "17:00", "18:00"], 2, True),  # catch_up is 5
    ],
)
def test_a_misfire_is_dealt_with_by_its_policy(
    recurrence: Recurrence, misfire: planner.Misfire, clock: str, fired: list[str], missed: int, late: bool
) -> None:
    now = at(clock)
    found = plan(hourly(recurrence=recurrence, misfire=misfire, catch_up=5), now)
    newest = now.replace(minute=0, second=0)
    assert found == Plan(
        occurrences=tuple(map(at, fired)),
        state="planned",
        next_nominal_at=newest + HOUR,
        next_run_at=newest + HOUR,
        last_nominal_at=newest,
        missed=missed,
        late=late,
    )


def test_several_within_the_grace_are_missed_without_being_late() -> None:
    tenths = hourly(recurrence=Recurrence(every_us=100_000, anchor=NOON - DAY))
    found = plan(tenths, NOON + SECOND / 2)
    assert (found.occurrences, found.missed, found.late) == ((NOON + SECOND / 2,), 5, False)


# ---- bounds ------------------------------------------------------------------------------------------------


def test_occurrences_beyond_the_end_are_not_missed() -> None:
    schedule = hourly(misfire="all", end_at=at("13:30"))
    found = plan(schedule, at("18:00"))
    assert found == Plan(
        occurrences=(NOON, at("13:00")), state="ended", last_nominal_at=at("13:00"), late=True
    )
    found = plan(dataclasses.replace(schedule, misfire="coalesce"), at("18:00"))
    assert (found.occurrences, found.missed, found.state) == ((at("13:00"),), 1, "ended")


def test_last_occurrence_before_the_end_ends_the_schedule() -> None:
    assert plan(hourly(end_at=at("12:59")), NOON).state == "ended"
    assert plan(hourly(end_at=at("13:00")), NOON).state == "planned"


@pytest.mark.parametrize(
    ("run_count", "fired", "state"),
    [(2, 4, "planned"), (6, 4, "ended"), (7, 3, "ended"), (9, 1, "ended")],
)
def test_runs_are_bounded_and_occurrences_beyond_are_not_missed(
    run_count: int, fired: int, state: str
) -> None:
    found = plan(hourly(misfire="all", max_runs=10, run_count=run_count), at("15:30"))
    assert len(found.occurrences) == fired
    assert found.occurrences[0] == NOON
    assert (found.missed, found.state, found.next_run_at is None) == (0, state, state == "ended")


def test_a_schedule_without_runs_left_fires_nothing() -> None:
    ended = Plan(state="ended", last_nominal_at=at("11:00"))
    assert plan(hourly(max_runs=3, run_count=3), at("15:30")) == ended
    edited = hourly(state="new", next_nominal_at=None, next_run_at=None, max_runs=3, run_count=4)
    assert plan(edited, NOON) == ended


def test_skipped_occurrence_counts_no_run() -> None:
    found = plan(hourly(misfire="skip", max_runs=3, run_count=2), at("12:30"))
    assert (found.occurrences, found.missed, found.state) == ((), 1, "planned")


@pytest.mark.parametrize("state", ["ended", "failed"])
def test_ended_or_failed_schedule_stays_so(state: planner.State) -> None:
    schedule = hourly(state=state, next_nominal_at=None, next_run_at=None)
    assert plan(schedule, NOON) == Plan(state=state, last_nominal_at=at("11:00"))


# ---- runs by hand ------------------------------------------------------------------------------------------


def test_run_now_runs_once_and_leaves_the_next_occurrence_alone() -> None:
    found = plan(hourly(next_run_at=at("11:30"), misfire="skip"), at("11:45"))
    assert found == Plan(
        occurrences=(at("11:30"),),
        state="planned",
        next_nominal_at=NOON,
        next_run_at=NOON,
        last_nominal_at=at("11:00"),
        manual=True,
    )


def test_postponed_run_replaces_its_occurrence_and_those_it_passes() -> None:
    schedule = hourly(next_run_at=at("14:30"))
    assert plan(schedule, at("14:29")).next_run_at == at("14:30")
    found = plan(schedule, at("14:30"))
    assert found == Plan(
        occurrences=(at("14:30"),),
        state="planned",
        next_nominal_at=at("15:00"),
        next_run_at=at("15:00"),
        last_nominal_at=NOON,
        manual=True,
    )


def test_postponed_one_off_fires_once() -> None:
    schedule = once(NOON, next_nominal_at=NOON, next_run_at=at("12:30"))
    found = plan(schedule, at("12:30"))
    assert (found.occurrences, found.state, found.last_nominal_at) == ((at("12:30"),), "ended", NOON)
    edited = dataclasses.replace(planned(schedule, found), state="new")
    assert plan(edited, at("13:00")).occurrences == ()


@pytest.mark.parametrize("state", ["new", "planned"])
def test_a_new_schedule_runs_now_and_is_planned_then(state: planner.State) -> None:
    schedule = hourly(state=state, next_nominal_at=None, next_run_at=at("11:30"), last_nominal_at=None)
    assert plan(schedule, at("11:29")).state == "planned"
    found = plan(schedule, at("11:31"))
    assert (found.occurrences, found.next_run_at, found.last_nominal_at) == ((at("11:30"),), NOON, None)


@pytest.mark.parametrize("limit", [{"end_at": at("11:00")}, {"max_runs": 3, "run_count": 3}])
def test_a_schedule_that_has_ended_runs_now_and_has_ended_again(limit: dict[str, Any]) -> None:
    schedule = hourly(next_nominal_at=None, next_run_at=at("11:30"), **limit)
    found = plan(schedule, at("11:31"))
    assert found == Plan(occurrences=(at("11:30"),), state="ended", last_nominal_at=at("11:00"), manual=True)


def test_run_by_hand_counts() -> None:
    found = plan(hourly(next_run_at=at("11:30"), max_runs=3, run_count=2), at("11:31"))
    assert (len(found.occurrences), found.state) == (1, "ended")


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"state": "new", "next_nominal_at": None, "next_run_at": None}, {"next_run_at": at("11:30")}],
)
def test_invalid_schedule_fails_with_the_reason(changes: dict[str, Any]) -> None:
    bad = hourly(recurrence=Recurrence(cron="0 * * * *", timezone="Europe/Parys", anchor=NOON), **changes)
    if changes.get("next_run_at"):
        bad = dataclasses.replace(bad, next_nominal_at=None)
    found = plan(bad, at("12:30"))
    assert found.error is not None
    assert found.error.startswith('time zone "Europe/Parys"')
    assert found == Plan(state="failed", last_nominal_at=at("11:00"), error=found.error)


def test_jitter_beyond_the_calendar_is_an_error_of_its_schedule() -> None:
    found = plan(once(datetime.max.replace(tzinfo=UTC), jitter=HOUR), NOON)
    assert (found.state, found.occurrences) == ("failed", ())
    assert "beyond the year 9999" in (found.error or "")


# ---- jitter ------------------------------------------------------------------------------------------------


def test_jitter_is_a_function_of_name_and_occurrence() -> None:
    assert actual("report", NOON, timedelta(0)) == NOON
    # the same in every process, of every version
    assert actual("report", NOON, HOUR) == JITTERED
    assert actual("report", NOON.astimezone(timezone(5 * HOUR)), HOUR) == JITTERED
    found = {actual(name, NOON + hour * HOUR, MINUTE) - hour * HOUR for name in "abcde" for hour in range(5)}
    assert len(found) == 25


@given(st.text(), st.integers(0, 10**12), st.integers(1, 10**9))
def test_jitter_is_less_than_its_bound(name: str, moment: int, jitter: int) -> None:
    nominal = NOON + moment * MICROSECOND
    assert nominal <= actual(name, nominal, jitter * MICROSECOND) < nominal + jitter * MICROSECOND


def test_an_occurrence_with_jitter_fires_at_its_actual_time() -> None:
    schedule = new(hourly().recurrence, jitter=30 * MINUTE)
    found = plan(schedule, at("11:10"))
    moment = actual("new", NOON, 30 * MINUTE)
    assert (found.next_nominal_at, found.next_run_at) == (NOON, moment)
    schedule = planned(schedule, found)
    assert plan(schedule, moment - MICROSECOND).occurrences == ()
    found = plan(schedule, moment + MINUTE)
    assert (found.occurrences, found.late, found.manual) == ((NOON,), False, False)
    assert plan(schedule, moment + MINUTE + MICROSECOND).late


@settings(deadline=None)
@given(
    st.sampled_from(["every", "cron"]),
    st.integers(0, 400),
    st.integers(0, 7200),
    st.integers(1, 40),
    st.sampled_from(["coalesce", "skip", "all"]),
    st.none() | st.integers(0, 400),
    st.none() | st.integers(1, 50),
)
def test_due_occurrences_equal_those_of_a_search_one_by_one(
    kind: str,
    minutes: int,
    jitter: int,
    catch_up: int,
    misfire: planner.Misfire,
    end: int | None,
    left: int | None,
) -> None:
    """Also if jitter is longer than the period, so that the order of actual times is another."""
    recurrence = (
        Recurrence(every_us=60 * 10**6, anchor=NOON - DAY)
        if kind == "every"
        else Recurrence(cron="* * * * *", anchor=NOON)
    )
    spread = jitter * SECOND
    begin = actual("each", NOON, spread)
    schedule = hourly(
        name="each",
        recurrence=recurrence,
        next_run_at=begin,
        jitter=spread,
        catch_up=catch_up,
        misfire=misfire,
        end_at=None if end is None else NOON + end * MINUTE,
        max_runs=left,
    )
    now = begin + minutes * MINUTE
    all_ = [NOON + number * MINUTE for number in range(1000 if end is None else end + 1)]
    due = list(itertools.takewhile(lambda nominal: actual("each", nominal, spread) <= now, all_))
    newest = max(actual("each", nominal, spread) for nominal in due)
    chosen = due[-catch_up:] if misfire == "all" else due[-1:]
    if misfire == "skip" and now - newest > MINUTE:
        chosen = []
    fired = chosen[:left]
    over = len(due) == len(all_) or len(fired) == left
    found = plan(schedule, now)
    assert found.occurrences == tuple(fired)
    assert found.missed == len(due) - len(chosen)
    assert found.last_nominal_at == due[-1]
    assert found.late == (minutes > 1)
    assert found.next_nominal_at == (None if over else all_[len(due)])
    assert found.state == ("ended" if over else "planned")


# ---- thousands that were missed ----------------------------------------------------------------------------


class Counted:
    """Counts how often the next occurrence is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._next_after = planner.next_after
        monkeypatch.setattr(planner, "next_after", self)

    def __call__(self, recurrence: Recurrence, after: datetime) -> datetime | None:
        self.calls += 1
        return self._next_after(recurrence, after)


def test_a_year_of_tenths_of_a_second_is_counted_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    tenths = hourly(recurrence=Recurrence(every_us=100_000, anchor=NOON - DAY), misfire="all")
    found = plan(tenths, NOON + 365 * DAY)
    assert found.missed == 365 * 864_000 + 1 - 100
    assert len(found.occurrences) == 100
    assert found.occurrences[-1] == NOON + 365 * DAY
    assert counted.calls <= 101


def test_due_occurrences_with_jitter_equal_those_of_a_search_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted(monkeypatch)
    tenths = Recurrence(every_us=100_000, anchor=NOON - DAY)
    schedule = hourly(recurrence=tenths, jitter=HOUR, next_run_at=actual("hourly", NOON, HOUR))
    found = plan(schedule, NOON + 365 * DAY)
    assert NOON + 365 * DAY - HOUR <= found.occurrences[0] <= NOON + 365 * DAY
    assert found.next_nominal_at == found.occurrences[0] + SECOND / 10
    assert found.missed == (found.occurrences[0] - NOON) // (SECOND / 10)
    assert counted.calls < 2000


@pytest.mark.parametrize(
    ("misfire", "catch_up", "fired"), [("coalesce", 100, 1), ("all", 100, 100), ("all", 10_000, 10_000)]
)
def test_a_year_of_minutes_is_counted_to_ten_thousand_and_the_newest_are_found(
    monkeypatch: pytest.MonkeyPatch, misfire: planner.Misfire, catch_up: int, fired: int
) -> None:
    counted = Counted(monkeypatch)
    minutes = Recurrence(cron="* * * * *", anchor=NOON - DAY)
    found = plan(hourly(recurrence=minutes, misfire=misfire, catch_up=catch_up), NOON + 365 * DAY)
    assert len(found.occurrences) == fired
    assert found.occurrences[-1] == found.last_nominal_at == NOON + 365 * DAY
    assert found.occurrences[0] == NOON + 365 * DAY - (fired - 1) * MINUTE
    assert found.next_nominal_at == NOON + 365 * DAY + MINUTE
    assert found.missed >= 10_000 - fired
    assert counted.calls < 12_000 + 6 * fired


def test_the_newest_are_found_behind_a_season_without_any() -> None:
    minutes = Recurrence(cron="* * * 5 *", anchor=NOON - DAY)
    found = plan(hourly(recurrence=minutes), datetime(2026, 12, 24, tzinfo=UTC))
    assert found.occurrences == (datetime(2026, 5, 31, 23, 59, tzinfo=UTC),)
    assert found.next_nominal_at == datetime(2027, 5, 1, tzinfo=UTC)


# ---- whatever the clock does -------------------------------------------------------------------------------

STEPS = st.tuples(st.sampled_from(["wait", "jump", "edit", "run"]), st.integers(-200, 400))


@settings(deadline=None)
@given(st.sampled_from(["all", "coalesce", "skip"]), st.integers(0, 3600), st.lists(STEPS, max_size=30))
def test_nothing_is_fired_twice_and_with_all_nothing_is_lost(
    misfire: planner.Misfire, jitter: int, steps: list[tuple[str, int]]
) -> None:
    """The clock is put forward and back, the schedule edited, and runs are asked for."""
    schedule = new(
        Recurrence(cron="*/10 * * * *", anchor=NOON), misfire=misfire, catch_up=10_000, jitter=jitter * SECOND
    )
    now, edited = NOON, False
    fired: list[datetime] = []
    for step, minutes in [("wait", 0), *steps, ("wait", 400)]:
        if step == "wait":
            now = max(now + abs(minutes) * MINUTE, schedule.next_run_at or now)
        elif step == "jump":
            now += minutes * MINUTE
        elif step == "edit":
            edited = True
            schedule = dataclasses.replace(schedule, state="new", next_nominal_at=None, next_run_at=None)
        else:
            edited = True
            schedule = dataclasses.replace(schedule, state="planned", next_run_at=now + 7 * SECOND)
        found = plan(schedule, now)
        if not found.manual:
            fired += found.occurrences
        schedule = planned(schedule, found)
        assert found.next_run_at is not None
        assert found.next_run_at > now
    assert fired == sorted(set(fired))
    if misfire == "all" and not edited:
        assert fired == [NOON + number * 10 * MINUTE for number in range(1, len(fired) + 1)]


@settings(deadline=None)
@given(
    st.sampled_from(["0 0 1 * *", "0 12 * * mon", "*/10 * * * *", "0 0 29 2 *"]),
    st.integers(0, 3 * 86_400),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=10),
    st.integers(0, 24 * 60),
)
def test_plan_of_a_clock_hours_ahead_at_most_is_kept(
    cron: str, jitter: int, steps: list[int], back: int
) -> None:
    schedule = new(Recurrence(cron=cron, anchor=NOON), jitter=jitter * SECOND)
    now = NOON
    for minutes in (0, *steps):
        now += minutes * MINUTE
        schedule = planned(schedule, plan(schedule, now))
        assert replan(schedule, now) is None
    if schedule.last_nominal_at is not None and schedule.last_nominal_at > now - MINUTE:  # it was just fired
        assert replan(schedule, now - back * MINUTE) is None


@pytest.mark.parametrize("state", ["planned", "ended"])
def test_schedule_planned_or_ended_by_a_clock_far_ahead_is_planned_from_now(state: planner.State) -> None:
    far = at("12:00") + 3650 * DAY
    end = {"end_at": far - 365 * DAY} if state == "ended" else {}
    schedule = planned(hourly(**end), plan(hourly(**end), far))
    assert schedule.state == state
    found = replan(schedule, at("12:30"))
    assert found is not None
    assert (found.occurrences, found.state, found.next_run_at) == ((), "planned", at("13:00"))
    assert found.replanned_at == at("12:30")
    # it is not forgotten, in case that it is the present clock that is wrong
    assert found.last_nominal_at == schedule.last_nominal_at
    again = plan(planned(schedule, found), at("13:00"))
    assert (again.occurrences, again.last_nominal_at) == ((at("13:00"),), at("13:00"))


@pytest.mark.parametrize(
    "schedule",
    [
        hourly(next_run_at=NOON + 3650 * DAY),  # postponed by hand
        hourly(next_nominal_at=None, next_run_at=NOON + 3650 * DAY),
        once(
            NOON + 3650 * DAY,
            state="planned",
            next_nominal_at=NOON + 3650 * DAY,
            next_run_at=NOON + 3650 * DAY,
        ),
        hourly(state="ended", next_nominal_at=None, next_run_at=None, max_runs=1, run_count=1),
        once(NOON + DAY, state="ended", last_nominal_at=NOON + DAY),
        hourly(
            recurrence=Recurrence(cron="0 * * * *", timezone="Mars", anchor=NOON),
            next_nominal_at=NOON + 3650 * DAY,
            next_run_at=NOON + 3650 * DAY,
        ),
    ],
)
def test_other_schedules_far_ahead_are_left_alone(schedule: Schedule) -> None:
    assert replan(schedule, NOON) is None


def test_plan_of_a_clock_that_was_behind_fires_nothing_twice() -> None:
    behind = NOON - 9000 * DAY
    edited = hourly(state="new", next_nominal_at=None, next_run_at=None, last_nominal_at=NOON)
    schedule = planned(edited, plan(edited, behind))
    assert schedule.next_run_at is not None
    assert schedule.next_run_at < NOON
    found = plan(schedule, at("12:30"))
    assert (found.occurrences, found.missed, found.next_run_at) == ((), 0, at("13:00"))
    assert plan(schedule, at("13:30")).occurrences == (at("13:00"),)


# ---- following ---------------------------------------------------------------------------------------------


def test_following_occurrences_lie_between_start_and_end() -> None:
    schedule = hourly(start_at=at("14:00"), end_at=at("16:00"))
    found = list(_following(schedule, NOON))
    assert found == [at("14:00"), at("15:00"), at("16:00")]


def _following(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    moment = following(schedule, after)
    while moment is not None:
        yield moment
        moment = following(schedule, moment)
