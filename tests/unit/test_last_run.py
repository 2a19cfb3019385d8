"""Where another scheduler left off: what a row says when it goes on from there."""

import datetime
from typing import Any

import pytest
from celery import Celery
from celery.schedules import schedule

from pgreact.timetable.importers.celery_schedules import recurrence_columns
from pgreact.timetable.importers.last_run import begin_without_run, resume_from
from pgreact.timetable.importers.skipped import Skipped
from pgreact.timetable.recurrence import next_after
from pgreact.timetable.schedule_row import recurrence

NOON = datetime.datetime(2030, 1, 2, 12, 0, 0, 5000, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
EVERY = {"every": 5400.0}


def on(row: dict[str, Any], since: datetime.datetime = NOON, **more: Any) -> dict[str, Any]:
    """Return what is added to a row that goes on."""
    given = {"name": "a", "task": "t", **row}
    found = resume_from(given, since, **{"last_run_at": since, **more})
    assert isinstance(found, dict), found
    assert found.items() >= given.items()
    return {key: value for key, value in found.items() if key not in given}


def test_a_row_tells_of_its_runs() -> None:
    assert on(EVERY, run_count=7) == {
        "last_nominal_at": NOON.isoformat(),
        "last_run_at": NOON.isoformat(),
        "run_count": 7,
        "grid": NOON.isoformat(),
        "due": (NOON + 1.5 * HOUR).isoformat(),
    }


def test_without_a_run_it_goes_on_all_the_same() -> None:
    found = on(EVERY, last_run_at=None)
    assert "last_run_at" not in found
    assert found["due"] == (NOON + 1.5 * HOUR).isoformat()


@pytest.mark.parametrize(
    ("row", "due"),
    [
        ({"cron": "*/5 * * * *"}, "2030-01-02T12:05:00+00:00"),
        ({"cron": "0 12 * * *", "timezone": "Europe/Paris"}, "2030-01-03T11:00:00+00:00"),
        ({"cron": "0 0 13 * fri", "cron_and": True}, "2030-09-13T00:00:00+00:00"),
        (
            {"rrule": "FREQ=DAILY;INTERVAL=2", "anchor": "2030-01-01T09:00:00+01:00"},
            "2030-01-03T08:00:00+00:00",
        ),
        ({"at": "2030-01-02T12:30:00+00:00"}, "2030-01-02T12:30:00+00:00"),
        ({"at": "2030-01-02T12:00:00+00:00"}, None),
        # on the grid that it says itself, and not on that of its last run
        ({"every": 3600.0, "anchor": "2000-01-01T00:00:00+00:00"}, "2030-01-02T13:00:00+00:00"),
    ],
)
def test_the_first_occurrence_after_the_last_run_is_due(row: dict[str, Any], due: str | None) -> None:
    found = on(row)
    assert found.get("due") == due
    assert "grid" not in found


def test_an_entry_before_its_start_is_due_at_its_start() -> None:
    start = NOON + 2 * HOUR
    found = on({**EVERY, "start_at": start.isoformat()})
    assert found["due"] == start.isoformat()
    assert "grid" not in found
    early = {**EVERY, "start_at": (NOON + HOUR).isoformat()}
    assert on(early)["due"] == (NOON + 1.5 * HOUR).isoformat()  # the interval from its last run ends later
    assert on(early, last_run_at=None)["due"] == early["start_at"]
    assert (
        on({"cron": "0 * * * *", "start_at": "2030-01-02T15:00:00+00:00"})["due"]
        == "2030-01-02T15:00:00+00:00"
    )
    assert on({**EVERY, "start_at": (NOON - HOUR).isoformat()})["due"] == (NOON + 1.5 * HOUR).isoformat()


@pytest.mark.parametrize(
    ("seconds", "first", "then"),
    [
        (7 * 86400, "2030-01-09T00:00:00+01:00", "2030-01-16T00:00:00+01:00"),
        (36 * 3600, "2030-01-04T00:00:00+01:00", "2030-01-05T00:00:00+01:00"),
        (2.5 * 86400, "2030-01-05T00:00:00+01:00", "2030-01-07T00:00:00+01:00"),
        (5400, "2030-01-02T14:00:00+01:00", "2030-01-02T15:00:00+01:00"),
        (90, "2030-01-02T13:01:00+01:00", "2030-01-02T13:02:00+01:00"),
    ],
)
def test_a_relative_interval_goes_on_from_its_last_run_and_keeps_its_phase(
    seconds: float, first: str, then: str
) -> None:
    app = Celery("proj", set_as_current=False)
    app.conf.timezone = "Europe/Paris"
    row = {"name": "a", "task": "t", **recurrence_columns(schedule(seconds, relative=True), app)}
    found = resume_from(row, NOON, last_run_at=NOON, run_count=1)
    assert isinstance(found, dict)
    moments = [datetime.datetime.fromisoformat(moment) for moment in (first, then)]
    assert datetime.datetime.fromisoformat(found["due"]) == moments[0]
    kept = recurrence(found, NOON)
    dealt_with = datetime.datetime.fromisoformat(found["last_nominal_at"])
    assert next_after(kept, max(NOON, dealt_with)) == moments[0]  # as the timetable plans it anew
    assert next_after(kept, moments[0]) == moments[1]


def test_an_entry_that_never_ran_is_due_at_once_if_its_source_says_so() -> None:
    found = begin_without_run({"name": "a", "task": "t", "cron": "0 0 1 1 *"}, NOON)
    assert isinstance(found, dict)
    assert found["due"] == NOON.isoformat()
    assert found["last_nominal_at"] < found["due"]
    later = {"name": "a", "task": "t", "rrule": "FREQ=DAILY", "anchor": "2031-01-01T09:00:00+00:00"}
    found = begin_without_run(later, NOON)
    assert isinstance(found, dict)
    assert found["due"] == "2031-01-01T09:00:00+00:00"


@pytest.mark.parametrize(
    "bounds",
    [
        {"enabled": False},
        {"max_runs": 7},
        {"end_at": (NOON + HOUR).isoformat()},
    ],
)
def test_an_ended_entry_is_not_due(bounds: dict[str, Any]) -> None:
    assert "due" not in on({**EVERY, **bounds}, run_count=7)


def test_bounds_that_are_not_reached_do_not_matter() -> None:
    bounds = {"enabled": True, "max_runs": 8, "end_at": (NOON + 1.5 * HOUR).isoformat()}
    assert "due" in on({**EVERY, **bounds}, run_count=7)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"every": 1e15}, ""),
    ],
)
def test_row_without_a_computable_recurrence_is_skipped(row: dict[str, Any], reason: str) -> None:
    found = resume_from({"name": "a", "task": "t", **row}, NOON, last_run_at=NOON)
    assert isinstance(found, Skipped)
    assert reason in found.reason
