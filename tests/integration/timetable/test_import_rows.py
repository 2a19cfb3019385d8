"""Rows from elsewhere in pgreact.schedule: what is written, what is left alone, what stays behind."""

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from pgreact.postgres.session import Session
from pgreact.timetable.delivery import QueueDelivery
from pgreact.timetable.importers.last_run import resume_from
from pgreact.timetable.importers.skipped import Skipped
from pgreact.timetable.importers.upsert import Report, write
from tests.harness import Database
from tests.timetable import Passes, row

CRON = {"name": "a report", "task": "proj.report", "cron": "0 7 * * mon-fri", "timezone": "Europe/Paris"}
EVERY = {
    "name": "a poll",
    "task": "proj.poll",
    "every": 90,
    "args": '[1, "two"]',
    "options": '{"queue": "q"}',
}


@pytest.fixture
def ours(database: Database, installed: Callable[..., None]) -> Database:
    """A database with our schema."""
    installed(database)
    return database


def put(database: Database, *rows: Any, origin: Literal["sql", "app"] = "sql", prune: bool = False) -> Report:
    """Write rows as an import does."""
    with database.connect() as connection:
        return write(connection, rows, origin, prune=prune)


def test_rows_are_written_with_the_columns_their_source_decides(ours: Database) -> None:
    assert put(ours, CRON, EVERY) == Report(added=("a report", "a poll"))
    assert row(ours, "a report", "task", "cron", "timezone", "args", "kwargs", "origin", "state") == (
        "proj.report",
        "0 7 * * mon-fri",
        "Europe/Paris",
        [],
        {},
        "sql",
        "new",
    )
    assert row(ours, "a poll", "every", "args", "options", "delivery", "entry") == (
        datetime.timedelta(seconds=90),
        [1, "two"],
        {"queue": "q"},
        "queue",
        EVERY,
    )


def test_the_second_time_changes_nothing_and_an_edit_survives(ours: Database) -> None:
    put(ours, CRON, EVERY)
    ours.run("update pgreact.schedule set cron = '0 8 * * *', jitter = '5 s' where name = 'a report'")
    revision = row(ours, "a report", "revision")
    assert put(ours, CRON, EVERY) == Report(unchanged=("a report", "a poll"))
    assert row(ours, "a report", "cron", "jitter", "revision")[0] == "0 8 * * *"
    assert row(ours, "a report", "revision") == revision


def test_changed_entry_keeps_columns_that_it_does_not_decide(ours: Database) -> None:
    put(ours, CRON, EVERY)
    ours.run(
        "update pgreact.schedule set cron = '0 8 * * *', jitter = '5 s', overlap = false, misfire = 'all' "
        "where name = 'a report'"
    )
    assert put(ours, {**CRON, "args": "[7]"}) == Report(changed=("a report",))
    assert row(ours, "a report", "cron", "args", "jitter", "overlap", "misfire") == (
        "0 7 * * mon-fri",
        [7],
        datetime.timedelta(seconds=5),
        False,
        "all",
    )


def test_recurrence_may_change_its_kind(ours: Database) -> None:
    put(ours, CRON)
    assert put(ours, {**EVERY, "name": "a report"}).changed == ("a report",)
    assert row(ours, "a report", "cron", "every", "timezone") == (None, datetime.timedelta(seconds=90), "UTC")


def test_row_that_postgresql_refuses_is_skipped_alone_with_the_reason(ours: Database) -> None:
    good = [{**EVERY, "name": f"poll {n}"} for n in range(20)]
    bad = [
        {**EVERY, "name": "too often", "every": 0.01},
        {**CRON, "name": "zone", "timezone": "Mars/Olympus"},
        {**EVERY, "name": "option", "options": '{"declare": 1}'},
        {**EVERY, "name": "late", "start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"},
        {**EVERY, "name": "none", "max_runs": 0},
    ]
    found = put(ours, *good[:7], bad[0], *good[7:9], *bad[1:], *good[9:])
    assert sorted(found.added) == sorted(row["name"] for row in good)
    reasons = {entry.name: entry.reason for entry in found.skipped}
    assert list(reasons) == ["too often", "zone", "option", "late", "none"]
    assert "every is 00:00:00.01; Use 100 ms to 36500 days" in reasons["too often"]
    assert 'no time zone "Mars/Olympus"' in reasons["zone"]
    assert 'no option "declare"' in reasons["option"]
    assert "ends before it starts" in reasons["late"]
    assert "schedule_max_runs_check" in reasons["none"]


def test_skipped_entries_go_into_the_report(ours: Database) -> None:
    left = Skipped("a lambda", "its args[0] is a function")
    assert put(ours, left, EVERY).skipped == (left,)
    assert put(ours, EVERY, {**EVERY, "task": "proj.other"}).skipped == (
        Skipped("a poll", "its source has another entry of this name"),
    )


@pytest.mark.parametrize("origin", ["sql", "config"])
def test_schedules_of_others_are_left_alone(ours: Database, origin: str) -> None:
    ours.run(
        f"insert into pgreact.schedule (name, task, every, origin) values ('a poll', 't', '1 s', '{origin}')"
    )
    for who in ("sql", "app"):
        found = put(ours, EVERY, origin=who, prune=True)  # type: ignore[arg-type]
        assert [entry.name for entry in found.skipped] == ["a poll"]
        assert found.added == found.changed == found.unchanged == found.removed == ()
    assert row(ours, "a poll", "task", "origin") == ("t", origin)


def test_application_leaves_imported_schedules_until_they_are_handed_over(ours: Database) -> None:
    put(ours, EVERY)
    before = row(ours, "a poll", "origin", "delivery", "entry", "revision")
    assert (
        "was imported"
        in put(ours, {**EVERY, "delivery": "direct"}, origin="app", prune=True).skipped[0].reason
    )
    assert row(ours, "a poll", "origin", "delivery", "entry", "revision") == before
    ours.run("update pgreact.schedule set origin = 'app'")
    assert put(ours, {**EVERY, "delivery": "direct"}, origin="app").changed == ("a poll",)
    assert row(ours, "a poll", "origin", "delivery") == ("app", "direct")
    assert put(ours, {**EVERY, "delivery": "direct"}, origin="app").unchanged == ("a poll",)
    assert "celery beat -S pgreact" in put(ours, EVERY).skipped[0].reason


def test_row_given_to_the_application_by_hand_belongs_to_it(ours: Database) -> None:
    ours.run("insert into pgreact.schedule (name, task, every, origin) values ('a poll', 't', '1 s', 'app')")
    assert put(ours, EVERY, origin="app").changed == ("a poll",)
    assert row(ours, "a poll", "task", "entry") == ("proj.poll", EVERY)


def test_prune_removes_rows_that_the_source_no_longer_has(ours: Database) -> None:
    put(ours, {**EVERY, "name": "imported"})
    put(ours, CRON, EVERY, {**EVERY, "name": "bad"}, origin="app")
    assert put(ours, CRON, origin="app").removed == ()
    found = put(ours, CRON, Skipped("bad", "it has a countdown now"), origin="app", prune=True)
    assert (found.unchanged, found.removed) == (("a report",), ("a poll",))
    assert ours.value("select array_agg(name order by name) from pgreact.schedule") == [
        "a report",
        "bad",
        "imported",
    ]


def test_two_imports_may_write_the_same_rows_at_once(ours: Database) -> None:
    with ours.connect() as first, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            write(first, [EVERY], "app")
            second = pool.submit(put, ours, EVERY, CRON, origin="app")
            ours.until("select exists (select from pg_stat_activity where wait_event_type = 'Lock')")
        assert second.result() == Report(added=("a report",), unchanged=("a poll",))


def test_nothing_is_written_where_the_schema_is_missing(database: Database) -> None:
    with database.connect() as connection, pytest.raises(Exception, match="pgreact"):
        write(connection, [EVERY, CRON], "sql")


# ---- last runs ---------------------------------------------------------------------------------------------

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def ran(row: dict[str, Any], ago: datetime.timedelta, **more: Any) -> dict[str, Any]:
    """Return a row that last ran so long ago."""
    found = resume_from({**row, **more}, NOW - ago, last_run_at=NOW - ago, run_count=3)
    assert isinstance(found, dict)
    return found


def test_a_schedule_is_planned_from_its_last_run_on(ours: Database) -> None:
    put(ours, ran(EVERY, HOUR), ran(CRON, HOUR, name="off", enabled=False))
    assert row(ours, "a poll", "state", "anchor", "last_run_at", "run_count", "next_run_at") == (
        "planned",
        NOW - HOUR,
        NOW - HOUR,
        3,
        NOW - HOUR + datetime.timedelta(seconds=90),
    )
    assert row(ours, "a poll", "next_nominal_at = next_run_at") == (True,)
    assert row(ours, "off", "state", "next_run_at", "last_run_at") == ("new", None, NOW - HOUR)


def test_last_runs_alone_are_no_change(ours: Database) -> None:
    put(ours, ran(EVERY, HOUR))
    assert put(ours, ran(EVERY, HOUR / 2)).unchanged == ("a poll",)
    assert row(ours, "a poll", "last_run_at") == (NOW - HOUR,)


def test_changed_entry_brings_later_runs_of_the_source(ours: Database) -> None:
    put(ours, ran(EVERY, HOUR))
    put(ours, ran(EVERY, HOUR / 2, args="[2]"))
    assert row(ours, "a poll", "anchor", "last_run_at", "next_run_at") == (
        NOW - HOUR / 2,
        NOW - HOUR / 2,
        NOW - HOUR / 2 + datetime.timedelta(seconds=90),
    )


def test_changed_entry_keeps_later_runs_made_here(ours: Database) -> None:
    put(ours, ran(EVERY, HOUR))
    ours.run(
        "update pgreact.schedule set last_nominal_at = now(), last_run_at = now(), run_count = 4, "
        "next_nominal_at = now() + interval '1 min', next_run_at = now() + interval '1 min', revision = "
        "revision + 1"
    )
    columns = ("anchor", "last_run_at", "next_run_at", "next_nominal_at", "run_count", "state")
    before = row(ours, "a poll", *columns)
    assert put(ours, ran(EVERY, HOUR / 2, args="[2]")).changed == ("a poll",)
    assert row(ours, "a poll", *columns) == before


def test_an_anchor_that_the_source_moves_is_moved(ours: Database) -> None:
    row_of = {**EVERY, "anchor": "2030-01-01T00:00:00+00:00"}
    put(ours, row_of)
    put(ours, {**row_of, "anchor": "2030-01-02T00:00:00+00:00"})
    assert row(ours, "a poll", "anchor") == (datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC),)
    ours.run("update pgreact.schedule set anchor = '2031-01-01Z'")
    put(ours, {**row_of, "anchor": "2030-01-02T00:00:00+00:00", "args": "[3]"})
    assert row(ours, "a poll", "anchor") == (datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC),)


async def played(database: Database) -> None:
    """Run one pass of the engine."""
    session = await Session.open(database.dsn, "test")
    await Passes(session, QueueDelivery()).run()
    await session.close()


async def test_occurrence_missed_before_enabling_is_not_fired(ours: Database) -> None:
    # NOW is of when this module was read, which may be half an hour ago
    skipping = {"misfire": "skip", "grace": 86_400, "every": 240 * 3600.0}
    rows = [
        ran(EVERY, ago, name=name, **skipping) for name, ago in (("late", 288 * HOUR), ("just", 241 * HOUR))
    ]
    put(ours, *({**each, "enabled": False} for each in rows))
    assert put(ours, *rows).changed == ("late", "just")
    await played(ours)
    assert row(ours, "late", "state", "run_count", "misfire_count") == ("planned", 3, 1)
    assert row(ours, "just", "state", "run_count") == ("planned", 4)


@pytest.mark.parametrize(
    "edit",
    [
        {"args": "[7]"},
        {"description": "x"},
        {"every": 7200.0},
        {"enabled": False},
        {"misfire": "skip", "grace": 86_400},
    ],
)
async def test_ended_one_off_stays_ended_when_its_source_changes(
    ours: Database, edit: dict[str, Any]
) -> None:
    """The source was stopped and never ran it, so the moment of the edit is its beginning."""
    once = {**EVERY, "every": 3600.0, "max_runs": 1}
    begun = resume_from(once, NOW - 2 * HOUR, last_run_at=None)
    put(ours, begun)
    await played(ours)
    assert row(ours, "a poll", "state", "run_count") == ("ended", 1)
    for again in ({**once, **edit}, {**once, **edit, "kwargs": '{"a": 1}', "enabled": True}):
        since = datetime.datetime.now(datetime.UTC) + HOUR  # edited after it ran here
        edited = resume_from(again, since, last_run_at=None)
        assert put(ours, edited).changed == ("a poll",)
        ours.run(
            "create or replace function pgreact.clock_now() returns timestamptz language sql "
            "as $$ select clock_timestamp() + interval '1 day' $$"
        )
        await played(ours)
        assert row(ours, "a poll", "run_count", "next_run_at") == (1, None)
    assert row(ours, "a poll", "state") == ("ended",)
    assert ours.value("select count(*) from pgreact.queue") == 1


@pytest.mark.parametrize("edit", [{"args": "[7]"}, {"enabled": False}, {"at": (NOW - 2 * HOUR).isoformat()}])
async def test_fired_one_off_is_not_fired_again_when_its_source_changes(
    ours: Database, edit: dict[str, Any]
) -> None:
    once = {"name": "a poll", "task": "proj.poll", "at": (NOW - HOUR).isoformat()}
    put(ours, resume_from(once, NOW - HOUR - datetime.timedelta(microseconds=1), last_run_at=None))
    await played(ours)
    assert row(ours, "a poll", "state", "run_count") == ("ended", 1)
    for again in ({**once, **edit}, {**once, "kwargs": '{"a": 1}'}):
        at = datetime.datetime.fromisoformat(again["at"])
        edited = resume_from(again, at - datetime.timedelta(microseconds=1), last_run_at=None)
        assert put(ours, edited).changed == ("a poll",)
        await played(ours)
    assert row(ours, "a poll", "state", "run_count") == ("ended", 1)


async def test_one_off_given_a_later_time_fires_then(ours: Database) -> None:
    once = {"name": "a poll", "task": "proj.poll", "at": (NOW - HOUR).isoformat()}
    put(ours, once)
    await played(ours)
    put(ours, {**once, "at": (NOW + 24 * HOUR).isoformat()})
    await played(ours)
    assert row(ours, "a poll", "state", "next_run_at") == ("planned", NOW + 24 * HOUR)


async def test_entry_past_its_end_is_not_due(ours: Database) -> None:
    put(ours, ran({**EVERY, "end_at": (NOW - HOUR / 2).isoformat()}, HOUR))
    await played(ours)
    assert row(ours, "a poll", "state", "run_count") == ("ended", 3)


def test_a_source_that_begins_to_round_moves_the_grid(ours: Database) -> None:
    put(ours, {**EVERY, "every": 3600.0})
    grid = NOW.replace(minute=0, second=0, microsecond=0)
    rounding = {**EVERY, "every": 3600.0, "relative": 3600.0, "grid": grid.isoformat()}
    put(ours, rounding)
    assert row(ours, "a poll", "anchor") == (grid,)
    later = {**rounding, "grid": (grid + HOUR).isoformat()}
    assert put(ours, later).unchanged == ("a poll",)
    put(ours, {**later, "args": "[2]"})
    assert row(ours, "a poll", "anchor") == (grid,)
