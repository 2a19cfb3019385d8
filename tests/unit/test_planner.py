"""What a schedule does now: what is due, what was missed, what comes next."""

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgreact.timetable import planner
from pgreact.timetable.planner import Plan, Schedule, actual, following, plan
from pgreact.timetable.recurrence import Recurrence

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=number) for number in (1, 60, 3600, 86400))
MICROSECOND = timedelta(microseconds=1)


def at(clock: str, day: int = 1) -> datetime:
    """A moment of May 2026, such as ``12:30`` or ``12:30:15``."""
    hour, minute, second = (*map(int, clock.split(":")), 0)[:3]
    return datetime(2026, 5, day, hour, minute, second, tzinfo=UTC)


def hourly(**changes: Any) -> Schedule:
    """A schedule that runs at each full hour, and is planned for noon."""
    values = {
        "id": 1,
        "name": "hourly",
        "turn": 7,
        "state": "planned",
        "recurrence": Recurrence(every_us=3600 * 10**6, anchor=NOON - DAY),
        "next_nominal_at": NOON,
        "next_run_at": NOON,
        "last_nominal_at": NOON - HOUR,
    } | changes
    return Schedule(**values)


def new(recurrence: Recurrence, **changes: Any) -> Schedule:
    """A schedule that was just written."""
    return Schedule(id=1, name="new", turn=0, state="new", recurrence=recurrence, **changes)


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
        turn=schedule.turn + 1,
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


def test_due_occurrence_is_fired() -> None:
    assert plan(hourly(), NOON + SECOND) == Plan(
        occurrences=(NOON,),
        state="planned",
        next_nominal_at=at("13:00"),
        next_run_at=at("13:00"),
        last_nominal_at=NOON,
    )
