"""Imported rows beside the schedulers they come from: what those would run now is due, and nothing else."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule
from dateutil.rrule import rrule as dateutil_rrule
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redbeat import RedBeatSchedulerEntry
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedules import rrule

from pgreact.timetable.importers import beat, django, redbeat
from pgreact.timetable.planner import Plan, Schedule, plan
from pgreact.timetable.schedule_row import parse_moment, recurrence
from tests.django_oracle import NOW
from tests.worker import ROOT

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Standing(Celery):
    """An application whose clock stands."""

    moment: datetime

    def now(self) -> datetime:
        """Return the moment of the test."""
        return self.moment.astimezone(self.timezone)  # type: ignore[no-any-return]


def application(zone: str, now: datetime, **conf: Any) -> Standing:
    app = Standing("proj", set_as_current=False, broker="memory://")
    app.conf.update(timezone=zone, redbeat_redis_url="redis://127.0.0.1:1", **conf)
    app.moment = now
    return app


def planned(row: Any, now: datetime) -> Plan:
    """Return what the timetable does with a row, as ``upsert_schedules`` writes it."""
    assert isinstance(row, dict), row
    begin = parse_moment(row.get("start_at")) or now
    end_at = parse_moment(row.get("end_at"))
    due = parse_moment(row.get("due")) if end_at is None or end_at > now else None
    return plan(
        Schedule(
            id=1,
            name=row["name"],
            revision=0,
            state="new" if due is None else "planned",
            recurrence=recurrence(row, begin),
            start_at=parse_moment(row.get("start_at")),
            end_at=end_at,
            max_runs=row.get("max_runs"),
            run_count=row.get("run_count", 0),
            misfire=row.get("misfire", "coalesce"),
            grace=timedelta(seconds=row.get("grace", 60)),
            next_nominal_at=due,
            next_run_at=due,
            last_nominal_at=parse_moment(row.get("last_nominal_at")),
        ),
        now,
    )


def same(row: Any, now: datetime, due: bool, left: float) -> None:
    """Compare with what a source says: that it is due, or when it will be."""
    found = planned(row, now)
    assert bool(found.occurrences) is due
    if not due:
        assert found.next_run_at is not None
        assert abs(found.next_run_at - now - timedelta(seconds=left)) < timedelta(milliseconds=1)


NOWS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda now: now.replace(tzinfo=UTC))  # noqa: DTZ001
# how long ago: about as long as the period, so that it may be due or not
PERIODS = st.one_of(
    st.integers(1, 59), st.integers(60, 3599), st.integers(3600, 86_399), st.integers(86_400, 12 * 86_400)
)
FRACTIONS = st.floats(0.01, 2.5)
# the clocks of Kolkata and of Kathmandu are half an hour, and a quarter, off those of UTC
ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"])
# where clocks change, Celery reads a crontab otherwise
STEADY = st.sampled_from(["UTC", "Asia/Kolkata", "America/Phoenix"])
FIELDS = st.fixed_dictionaries(
    {
        "minute": st.sampled_from(["*", "0", "*/7", "30", "0,59"]),
        "hour": st.sampled_from(["*", "3", "*/5", "9-17"]),
        "day_of_week": st.sampled_from(["*", "mon", "mon-fri", "0"]),
        "day_of_month": st.sampled_from(["*", "1", "31", "1-7"]),
        "month_of_year": st.sampled_from(["*", "2-12/5", "1"]),
    }
)


def ran_at(app: Standing, seconds: float) -> datetime:
    """Return a moment so long ago, as a source writes it: in its time zone."""
    return (app.moment - timedelta(seconds=round(seconds, 3))).astimezone(app.timezone)


# ---- Celery Beat -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=120)
@example(datetime(2026, 7, 3, 12, tzinfo=UTC), "UTC", 7 * 86_400, 2 / 7, True)
@given(NOWS, ZONES, PERIODS, FRACTIONS, st.booleans())
def test_an_interval_of_beat_goes_on_from_its_last_run(
    now: datetime, zone: str, seconds: int, fraction: float, relative: bool
) -> None:
    app = application(zone, now)
    last = ran_at(app, seconds * fraction)
    entry = {"task": "proj.run", "schedule": timedelta(seconds=seconds), "relative": relative}
    kept = ScheduleEntry(name="a", app=app, last_run_at=last, total_run_count=3, **entry)
    same(beat._row("a", entry, app, kept), now, *kept.is_due())


@settings(deadline=None, max_examples=150)
@given(NOWS, STEADY, FIELDS, st.floats(1, 40 * 86_400), st.none() | st.integers(60, 86_400))
def test_a_crontab_of_beat_goes_on_from_its_last_run(
    now: datetime, zone: str, fields: dict[str, str], ago: float, deadline: int | None
) -> None:
    app = application(zone, now, beat_cron_starting_deadline=deadline)
    entry = {"task": "proj.run", "schedule": crontab(**fields, app=app)}
    kept = ScheduleEntry(
        name="a",
        app=app,
        last_run_at=ran_at(app, ago),
        total_run_count=0,
        task="proj.run",
        schedule=entry["schedule"],
    )
    same(beat._row("a", entry, app, kept), now, *kept.is_due())


@given(NOWS, ZONES, PERIODS)
def test_a_relative_interval_that_beat_has_not_seen_begins_now(
    now: datetime, zone: str, seconds: int
) -> None:
    app = application(zone, now)
    entry = {"task": "proj.run", "schedule": schedule(seconds, relative=True, app=app)}
    row = beat._row("a", entry, app, None)
    found = planned(row, now)
    assert not found.occurrences
    due, left = ScheduleEntry(name="a", app=app, last_run_at=app.now(), **entry).is_due()
    assert not due
    assert found.next_run_at is not None
    # the first step of what is no whole number of days, hours or minutes may be longer at the source
    assert found.next_run_at <= now + timedelta(seconds=left)
    assert found.next_run_at > now + timedelta(seconds=left) - max(seconds, 60) * timedelta(seconds=1)


# ---- RedBeat -----------------------------------------------------------------------------------------------


def stored(entry: RedBeatSchedulerEntry) -> tuple[str, str]:
    """Return an entry as RedBeat writes it into Redis: its definition, and what is known of its runs."""
    names = ("name", "task", "args", "kwargs", "options", "schedule", "enabled")
    definition = {name: getattr(entry, name) for name in names}
    meta = {"last_run_at": entry.last_run_at, "total_run_count": entry.total_run_count}
    return json.dumps(definition, cls=RedBeatJSONEncoder), json.dumps(meta, cls=RedBeatJSONEncoder)


def of_redbeat(app: Standing, when: Any, last: datetime | None) -> RedBeatSchedulerEntry:
    entry = RedBeatSchedulerEntry("a", "proj.run", when, app=app)
    entry.last_run_at = last
    return entry


@settings(deadline=None, max_examples=150)
@given(NOWS, ZONES, PERIODS, st.none() | FRACTIONS, st.booleans())
def test_an_interval_of_redbeat_goes_on_from_its_last_run(
    now: datetime, zone: str, seconds: int, fraction: float | None, relative: bool
) -> None:
    app = application(zone, now)
    last = None if fraction is None else ran_at(app, seconds * fraction)
    entry = of_redbeat(app, schedule(seconds, relative=relative, app=app), last)
    same(redbeat._row("a", *stored(entry), app), now, *entry.is_due())


@settings(deadline=None, max_examples=120)
@given(NOWS, STEADY, FIELDS, st.none() | st.floats(1, 40 * 86_400))
def test_a_crontab_of_redbeat_goes_on_from_its_last_run(
    now: datetime, zone: str, fields: dict[str, str], ago: float | None
) -> None:
    app = application(zone, now)
    last = None if ago is None else ran_at(app, ago)
    entry = of_redbeat(app, crontab(**fields, app=app), last)
    same(redbeat._row("a", *stored(entry), app), now, *entry.is_due())


@settings(deadline=None, max_examples=120)
@given(
    NOWS,
    st.sampled_from(["DAILY", "WEEKLY", "HOURLY", "MINUTELY", "SECONDLY"]),
    st.integers(1, 90),
    st.integers(-100_000, 100_000),
    st.none() | FRACTIONS,
)
def test_a_rule_of_redbeat_goes_on_from_its_last_run(
    now: datetime, freq: str, interval: int, start: int, fraction: float | None
) -> None:
    app = application("UTC", now)
    begin = now.replace(microsecond=0) + start * timedelta(seconds=1)
    when = rrule(freq, dtstart=begin, interval=interval, app=app)
    period = next(iter(dateutil_rrule(rrule.FREQ_MAP[freq], dtstart=begin, interval=interval)[1:2])) - begin
    last = None if fraction is None else ran_at(app, period.total_seconds() * fraction)
    entry = of_redbeat(app, when, last)
    same(redbeat._row("a", *stored(entry), app), now, *entry.is_due())


# ---- django-celery-beat ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_task_of_django_goes_on_from_its_last_run(seed: int) -> None:
    command = [sys.executable, "-m", "tests.django_oracle", str(seed), "400"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    verdicts = [json.loads(line) for line in said.splitlines()]
    assert len(verdicts) == 400
    assert {True, False} == {verdict["due"] for verdict in verdicts}
    for verdict in verdicts:
        columns = verdict["row"]
        for name in ("expires", "start_time", "last_run_at", "date_changed", "clocked_time"):
            columns[name] = parse_moment(columns.get(name))
        row = django._row(SimpleNamespace(**columns), {})
        assert isinstance(row, dict), row
        if not columns["enabled"]:
            assert "due" not in row
            continue
        found = planned(row, NOW)
        assert bool(found.occurrences) is verdict["due"], verdict
        begun = columns["start_time"] is None or columns["start_time"] <= NOW
        if found.next_run_at is not None and not verdict["due"] and begun:
            assert found.next_run_at == parse_moment(verdict["next"]), verdict
