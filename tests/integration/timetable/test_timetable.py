"""The timetable in a running daemon: rows are planned, fired and moved on."""

import asyncio
import datetime
import json
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

import pytest

from pgreact import logs
from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.clock import Clock
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.timetable.delivery import DirectDelivery, QueueDelivery, fire
from pgreact.timetable.firing import planned
from pgreact.timetable.planner import Plan, plan
from pgreact.timetable.replanning import replan_all
from tests.command import pgreact
from tests.harness import Daemon, Database, Inbox, eventually
from tests.timetable import Passes, Timetable

Install = Callable[..., None]
Start = Callable[..., Daemon]


@pytest.fixture
def table(database: Database, inbox: Inbox, installed: Install) -> Timetable:
    """A timetable without a daemon."""
    installed(database)
    database.run("insert into pgreact.lane (name, paused) values ('held', true)")
    return Timetable(database, inbox)


@pytest.fixture
def leader(table: Timetable, daemons: Start) -> Daemon:
    """A daemon that fires."""
    daemon = daemons(table.database.dsn, table.inbox.url).ready()
    daemon.wait_for("timetable.acquired")
    return daemon


# ---- planning ----------------------------------------------------------------------------------------------


def test_a_new_interval_fires_on_the_grid_of_its_birth(table: Timetable, leader: Daemon) -> None:
    table.add("tick", every="'200 ms'")
    assert leader.wait_for("schedule.planned", schedule="tick")["next_run_at"]
    leader.wait_for("schedule.fired", 3, schedule="tick")
    off = table.database.value(
        "select bool_or(extract(epoch from h.nominal_at - s.created_at) * 1000000 % 200000 <> 0) "
        "from pgreact.schedule_history h join pgreact.schedule s on s.name = h.schedule"
    )
    assert off is False
    assert table.jobs("tick") >= 3


def test_a_new_cron_waits_for_its_time(table: Timetable, leader: Daemon) -> None:
    table.add("minute", cron="'* * * * *'")
    leader.wait_for("schedule.planned", schedule="minute")
    assert table.column(
        "minute", "state = 'planned' and next_run_at > now() and next_run_at = next_nominal_at"
    )
    assert table.column("minute", "extract(second from next_nominal_at)::integer") == 0
    table.database.run("update pgreact.schedule set cron = '*/2 * * * *'")
    leader.wait_for("schedule.planned", 2, schedule="minute")
    assert table.jobs("minute") == 0


def test_schedule_older_than_the_daemon_is_planned(table: Timetable, daemons: Start) -> None:
    table.add("early", every="'1 h'")
    daemon = daemons(table.database.dsn, table.inbox.url).ready()
    daemon.wait_for("schedule.planned", schedule="early")


def test_edit_of_the_call_leaves_the_plan_alone(table: Timetable, leader: Daemon) -> None:
    table.add("daily", every="'1 day'")
    leader.wait_for("schedule.planned", schedule="daily")
    before = table.column("daily", "next_run_at")
    table.database.run("update pgreact.schedule set args = '[1]', description = 'x' where name = 'daily'")
    assert table.column("daily", "state = 'planned'")
    assert table.column("daily", "next_run_at") == before


def test_an_edit_keeps_the_anchor(table: Timetable, leader: Daemon) -> None:
    table.add("slow", every="'7 days'")
    leader.wait_for("schedule.planned", schedule="slow")
    table.database.run("update pgreact.schedule set every = '5 days' where name = 'slow'")
    leader.wait_for("schedule.planned", 2, schedule="slow")
    assert table.column("slow", "next_run_at = created_at + interval '5 days'")


def test_a_disabled_schedule_rests_and_does_not_catch_up(table: Timetable, leader: Daemon) -> None:
    table.add("tick", every="'100 ms'", misfire="'all'")
    leader.wait_for("schedule.fired", 2, schedule="tick")
    table.database.run("update pgreact.schedule set enabled = false")
    runs = table.column("tick", "run_count")
    table.add("other", every="'100 ms'")
    leader.wait_for("schedule.fired", 5, schedule="other")
    assert table.column("tick", "run_count") == runs
    table.database.run("update pgreact.schedule set enabled = true where name = 'tick'")
    leader.wait_for("schedule.fired", runs + 1, schedule="tick")
    assert table.column("tick", "misfire_count") == 0


# ---- firing ------------------------------------------------------------------------------------------------


def test_job_has_the_values_of_its_schedule(table: Timetable, leader: Daemon) -> None:
    table.add(
        "full",
        every="'1 day'",
        args="'[1]'",
        kwargs="'{\"a\": 2}'",
        priority="7",
        max_attempts="2",
        expires="'1 h'",
        options='\'{"queue": "q", "headers": {"mine": 1}}\'',
    )
    leader.wait_for("schedule.planned", schedule="full")
    table.run_now("full")
    fired = leader.wait_for("schedule.fired", schedule="full")
    job = table.database.value("select to_jsonb(q) from pgreact.queue q where id = %s", fired["job"])
    assert (job["task"], job["args"], job["kwargs"]) == ("proj.tick", [1], {"a": 2})
    assert (job["lane"], job["priority"], job["max_attempts"]) == ("held", 7, 2)
    assert job["options"]["queue"] == "q"
    assert job["options"]["headers"].items() >= {"mine": 1, "periodic_task_name": "full"}.items()
    assert table.database.value("select expires - enqueued_at = interval '1 h' from pgreact.queue")


def test_run_now_runs_once_and_keeps_the_plan(table: Timetable, leader: Daemon) -> None:
    table.add("daily", every="'1 day'")
    leader.wait_for("schedule.planned", schedule="daily")
    planned = table.column("daily", "next_nominal_at")
    table.run_now("daily")
    leader.wait_for("schedule.fired", schedule="daily")
    table.until("daily", f"next_run_at = '{planned}' and next_nominal_at = '{planned}' and run_count = 1")


def test_a_moment_that_has_passed_is_fired_once_and_ends(table: Timetable, leader: Daemon) -> None:
    table.add("once", at="now() - interval '1 s'")
    leader.wait_for("schedule.fired", schedule="once")
    leader.wait_for("schedule.ended", schedule="once")
    assert table.column("once", "state = 'ended' and next_run_at is null and run_count = 1")


def test_an_ended_schedule_runs_again_by_hand(table: Timetable, leader: Daemon) -> None:
    table.add("once", at="now()")
    leader.wait_for("schedule.ended", schedule="once")
    table.run_now("once")
    leader.wait_for("schedule.fired", 2, schedule="once")
    table.until("once", "state = 'ended' and run_count = 2")


def test_max_runs_ends_it(table: Timetable, leader: Daemon) -> None:
    table.add("thrice", every="'100 ms'", max_runs="3")
    leader.wait_for("schedule.ended", schedule="thrice")
    assert (table.column("thrice", "run_count"), table.jobs("thrice")) == (3, 3)


def test_occurrence_finds_the_previous_job_unfinished(table: Timetable, leader: Daemon) -> None:
    table.add("alone", every="'100 ms'", overlap="false")
    found = leader.wait_for("schedule.misfired", 2, schedule="alone", policy="overlap")
    assert (found["missed"], found["fired"]) == (1, 0)
    assert table.jobs("alone") == 1
    assert set(table.outcomes("alone")) == {"fired", "overlapped"}
    table.database.run("select pgreact.cancel(id) from pgreact.queue")
    leader.wait_for("schedule.fired", 2, schedule="alone")


def test_a_schedule_of_a_lane_that_is_gone_stops_alone(table: Timetable, leader: Daemon) -> None:
    table.database.run("insert into pgreact.lane (name) values ('mail')")
    table.add("bad", every="'300 ms'", lane="'mail'")
    table.add("good", every="'100 ms'")
    table.database.run("delete from pgreact.lane where name = 'mail'")
    failed = leader.wait_for("schedule.failed", schedule="bad")
    assert failed["error"] == 'no lane "mail" in pgreact.lane'
    assert table.column("bad", "state = 'failed' and last_error is not null and next_run_at is null")
    fired = len(leader.seen("schedule.fired", schedule="good"))
    leader.wait_for("schedule.fired", fired + 2, schedule="good")
    table.database.run("update pgreact.schedule set lane = 'held' where name = 'bad'")
    leader.wait_for("schedule.fired", schedule="bad")
    assert table.column("bad", "last_error is null")


def test_a_row_that_the_engine_cannot_write_stops_alone(table: Timetable, leader: Daemon) -> None:
    table.database.run(
        "alter table pgreact.queue add constraint no_bad check (task <> 'bad')"
    )  # whatever a user adds to the tables
    table.add("bad", task="'bad'", every="'1 day'")
    table.add("good", every="'1 day'")
    leader.wait_for("schedule.planned", 2)
    table.database.run("update pgreact.schedule set next_run_at = now()")
    leader.wait_for("schedule.fired", schedule="good")
    assert "no_bad" in leader.wait_for("schedule.failed", schedule="bad")["error"]
    assert table.jobs("bad") == 0


def test_a_rule_that_its_library_breaks_on_stops_alone(table: Timetable, leader: Daemon) -> None:
    # as a library of another version would
    table.database.run(
        "create or replace function pgreact.check_rrule(rrule text, anchor timestamptz, zone text) "
        "returns void language sql as 'select'"
    )
    table.add("bad", rrule="'FREQ=MONTHLY;BYDAY=53MO'")
    table.add("good", every="'100 ms'")
    assert leader.wait_for("schedule.failed", schedule="bad")["error"]
    leader.wait_for("schedule.fired", schedule="good")
    assert table.column("bad", "state") == "failed"


def test_locked_schedule_holds_up_no_other(table: Timetable, leader: Daemon) -> None:
    table.add("edited", every="'100 ms'")
    table.add("other", every="'100 ms'")
    leader.wait_for("schedule.fired", schedule="edited")
    with table.database.connect(autocommit=False) as connection:
        connection.execute("update pgreact.schedule set args = '[2]' where name = 'edited'")
        runs = len(leader.seen("schedule.fired", schedule="other"))
        leader.wait_for("schedule.fired", runs + 3, schedule="other")
        runs = table.column("edited", "run_count")
        connection.commit()
    table.until("edited", f"run_count > {runs}")
    assert table.database.value("select args from pgreact.queue order by id desc limit 1") is not None


def test_jitter_is_the_same_in_each_process(table: Timetable, leader: Daemon) -> None:
    table.add("late", every="'1 day'", jitter="'1 h'")
    leader.wait_for("schedule.planned", schedule="late")
    first = table.column("late", "next_run_at - next_nominal_at")
    assert table.column("late", "next_run_at - next_nominal_at between interval '0' and interval '1 h'")
    table.database.run("update pgreact.schedule set state = 'new', revision = revision + 1")
    table.database.run("notify pgreact, 'schedule'")
    table.until("late", "state = 'planned'")
    assert table.column("late", "next_run_at - next_nominal_at") == first


def test_thousands_due_at_once_go_out_in_few_statements(table: Timetable, leader: Daemon) -> None:
    table.database.run(
        "insert into pgreact.schedule (name, task, lane, every) "
        "select 's' || n, 't', 'held', '1 day' from generate_series(1, 3000) n"
    )
    table.database.until("select count(*) = 3000 from pgreact.schedule where state = 'planned'")
    table.database.run("update pgreact.schedule set next_run_at = now()")
    table.database.until("select count(*) = 3000 from pgreact.queue")
    leader.wait_for("schedule.fired", 3000)
    assert table.database.value("select count(distinct xmin::text) <= 4 from pgreact.queue")


# ---- misfires ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "fired", "missed"), [("coalesce", 1, 9), ("skip", 0, 10), ("all", 4, 6)])
def test_occurrences_due_without_a_leader_follow_the_misfire_policy(
    table: Timetable, daemons: Start, policy: str, fired: int, missed: int
) -> None:
    table.add("hourly", every="'1 h'", misfire=f"'{policy}'", catch_up="4")
    first = daemons(table.database.dsn, table.inbox.url).ready()
    first.wait_for("schedule.planned", schedule="hourly")
    first.kill()
    table.turn_clock("10 h 5 min")
    second = daemons(table.database.dsn, table.inbox.url).ready()
    found = second.wait_for("schedule.misfired", schedule="hourly")
    assert (found["policy"], found["missed"], found["fired"]) == (policy, missed, fired)
    table.until("hourly", f"state = 'planned' and run_count = {fired} and misfire_count = {missed}")
    assert table.column("hourly", "next_run_at = created_at + interval '11 h'")
    assert table.jobs("hourly") == fired


async def told(table: Timetable, monkeypatch: pytest.MonkeyPatch, by: str) -> list[logs.Event]:
    """Return what is logged of what has become due when the clock is put forward."""
    events: list[logs.Event] = []
    monkeypatch.setattr(logs, "emit", events.append)
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, QueueDelivery())
    await passes.run()
    table.turn_clock(by)
    events.clear()
    await passes.run()
    await session.close()
    return events


@pytest.mark.parametrize(
    ("columns", "by", "policy", "missed", "fired"),
    [
        # within the grace of a minute
        ({"every": "'10 s'"}, "45 s", "coalesce", 3, 1),
        ({"every": "'10 s'", "misfire": "'skip'"}, "45 s", "skip", 3, 1),
        ({"every": "'10 s'", "misfire": "'all'", "catch_up": "3"}, "45 s", "all", 1, 3),
        ({"every": "'10 s'", "misfire": "'all'", "overlap": "false"}, "45 s", "overlap", 3, 1),
        # found late
        ({"every": "'10 s'", "overlap": "false", "misfire": "'all'"}, "105 s", "overlap", 9, 1),
    ],
)
async def test_dropped_occurrences_are_reported(
    table: Timetable,
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, str],
    by: str,
    policy: str,
    missed: int,
    fired: int,
) -> None:
    table.add("often", anchor="pgreact.clock_now()", **columns)
    table.database.run("update pgreact.schedule set anchor = pgreact.clock_now()")
    events = await told(table, monkeypatch, by)
    [misfired] = [event for event in events if isinstance(event, logs.ScheduleMisfired)]
    assert (misfired.policy, misfired.fired) == (policy, fired)
    assert misfired.missed >= missed  # more on a machine that is slow
    jobs = [event.job for event in events if isinstance(event, logs.ScheduleFired)]
    assert len(jobs) == fired == table.jobs("often")
    assert None not in jobs
    assert table.column("often", "misfire_count") == misfired.missed


async def test_occurrences_dropped_by_long_jitter_are_reported(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.add("often", every="'1 min'", jitter="'1 h'", grace="'1 day'")
    events = await told(table, monkeypatch, "3 h")
    [misfired] = [event for event in events if isinstance(event, logs.ScheduleMisfired)]
    assert misfired.fired == 1
    assert misfired.missed == table.column("often", "misfire_count") > 60


def test_a_clock_that_steps_neither_doubles_nor_loses(table: Timetable, leader: Daemon) -> None:
    table.add("hourly", every="'1 h'", misfire="'all'")
    leader.wait_for("schedule.planned", schedule="hourly")
    for by, runs in (("3 h 1 min", 3), ("-2 h", 3), ("3 h 30 min", 3), ("5 h 1 min", 5), ("0", 5)):
        table.turn_clock(by)
        table.until("hourly", f"run_count = {runs}")
        table.add(f"after {by}", at="pgreact.clock_now()")  # so the daemon has seen the clock
        leader.wait_for("schedule.fired", schedule=f"after {by}")
        assert table.column("hourly", "run_count") == runs
    assert table.database.value(
        "select count(*) = 5 and count(distinct nominal_at) = 5 from pgreact.schedule_history "
        "where schedule = 'hourly' and outcome = 'fired'"
    )


async def test_schedules_are_planned_from_now_after_a_clock_was_years_ahead(table: Timetable) -> None:
    """As its rules say; what a user put off, and what happened once, stay as they are."""
    kinds = {
        "hourly": {"every": "'1 h'"},
        "daily": {"cron": "'30 2 * * *'", "timezone": "'Europe/Paris'"},
        "monthly": {"cron": "'0 0 1 * *'", "jitter": "'1 h'"},
        "friday": {"rrule": "'FREQ=MONTHLY;BYDAY=-1FR'"},
        "bounded": {"every": "'1 h'", "end_at": "now() + interval '400 days'"},
        "twice": {"every": "'1 h'", "max_runs": "2"},
        "direct": {"every": "'1 h'", "delivery": "'direct'"},
        "once": {"at": "now() + interval '300 days'"},
        "later": {"at": "now() + interval '4000 days'"},
        "put off": {"every": "'1 h'", "next_run_at": "now() + interval '5000 days'"},
    }
    for name, columns in kinds.items():
        table.add(name, **columns)
    session = await Session.open(table.database.dsn, "test")
    slow = Slow(100)
    both = [Passes(session, QueueDelivery()), Passes(session, DirectDelivery(slow))]
    for passes in both:
        await passes.run()
    before = {name: table.column(name, "next_run_at") for name in kinds}
    await replan_all(session, Troubles(Clock()))  # nothing is wrong yet
    assert {name: table.column(name, "replanned_at") for name in kinds} == dict.fromkeys(kinds)
    table.turn_clock("3650 days")
    for passes in both:
        await passes.run()
    table.add("born ahead", every="'1 h'", created_at="now() + interval '3650 days'")
    await both[0].run()
    table.turn_clock("0")
    assert table.column("hourly", "next_run_at > now() + interval '3649 days'")
    await replan_all(session, Troubles(Clock()))
    for name in ("hourly", "daily", "monthly", "friday", "bounded", "direct"):
        assert table.column(name, "next_run_at") == before[name], name
        assert table.column(name, "replanned_at is not null and state = 'planned'"), name
    assert table.column("born ahead", "next_run_at < now() + interval '1 h'")
    assert table.column("twice", "next_run_at") == before["twice"]
    for name in ("later", "put off"):
        assert table.column(name, "replanned_at is null and next_run_at > now() + interval '3999 days'"), name
    assert table.column("once", "state = 'ended' and run_count = 1")
    table.turn_clock("1 h 5 min")
    for passes in both:
        await passes.run()
    await session.close()
    assert table.column("hourly", "run_count") == 2
    assert table.column("born ahead", "run_count") == 1
    assert table.column("direct", "run_count") == 2
    assert table.column("twice", "run_count = 2 and state = 'ended'")


async def test_a_row_that_cannot_be_planned_anew_stops_no_other(table: Timetable) -> None:
    table.database.run(
        "insert into pgreact.schedule (name, task, cron) "
        "select 's' || n, 't', '0 * * * *' from generate_series(1, 5) n"
    )
    session = await Session.open(table.database.dsn, "test")
    table.turn_clock("3650 days")
    await Passes(session, QueueDelivery()).run()
    table.turn_clock("0")
    table.database.run(
        "alter table pgreact.schedule add constraint no_bad check (name <> 's3' or replanned_at is null)",
        "alter table pgreact.schedule drop constraint schedule_times_lie_in_the_calendar",
        "update pgreact.schedule set revision = revision + 1, next_nominal_at = 'infinity', next_run_at = "
        "'infinity' "
        "where name = 's4'",
    )
    troubles = Troubles(Clock())
    await replan_all(session, troubles)
    assert [report.subject for report in troubles.reports()] == ["new plan of schedule s3"]
    table.database.run("alter table pgreact.schedule drop constraint no_bad")
    await replan_all(session, troubles)
    await session.close()
    assert not troubles.reports()
    assert table.database.value(
        "select array_agg(name order by name) from pgreact.schedule where replanned_at is not null"
    ) == ["s1", "s2", "s3", "s5"]


async def test_a_run_by_hand_does_not_hide_a_plan_from_a_clock_ahead(
    table: Timetable,
) -> None:
    for name in ("run early", "run late", "imported"):
        table.add(name, every="'1 h'")
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, QueueDelivery())
    await passes.run()
    before = {name: table.column(name, "next_run_at") for name in ("run early", "run late")}
    table.turn_clock("3650 days")
    await passes.run()
    table.turn_clock("0")
    table.database.run(
        "update pgreact.schedule set next_run_at = now() where name like 'run %'",
        # by a source whose clock was ahead
        "update pgreact.schedule set last_nominal_at = now() + interval '7300 days', "
        "next_nominal_at = now() + interval '7300 days 1 h', planned_at = null, "
        "next_run_at = now() + interval '7300 days 1 h' "
        "where name = 'imported'",
        "update pgreact.schedule set next_run_at = next_nominal_at where name = 'run late'",
    )
    await passes.run()
    assert table.column("run early", "run_count = 2 and next_run_at > now() + interval '3649 days'")
    assert table.column("imported", "state = 'planned' and planned_at > now() + interval '7299 days'")
    await replan_all(session, Troubles(Clock()))
    await session.close()
    for name, moment in before.items():
        assert table.column(name, "next_run_at") == moment, name
    assert table.column("imported", "next_run_at < now() + interval '1 h 1 s'")


async def test_a_plan_from_a_clock_that_was_set_back_before_the_write_is_found(table: Timetable) -> None:
    table.add("hourly", every="'1 h'")
    session = await Session.open(table.database.dsn, "test")
    table.turn_clock("3650 days")
    [row] = await session.fetch(query("timetable_due"), "queue", 0, None, 0, [], 10, None)
    table.turn_clock("0")
    await fire(session, [planned(row, QueueDelivery().messages)])
    assert table.column("hourly", "next_run_at > now() + interval '3649 days'")
    await replan_all(session, Troubles(Clock()))
    await session.close()
    assert table.column("hourly", "next_run_at < now() + interval '1 h 1 s'")


@pytest.mark.parametrize("edit", ["cron = '0 * * * *'", "jitter = '1 s'", "enabled = false"])
async def test_edit_revives_a_schedule_that_a_clock_far_ahead_postponed(table: Timetable, edit: str) -> None:
    table.add("hourly", cron="'30 * * * *'")
    table.turn_clock("3650 days")
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, QueueDelivery())
    await passes.run()
    table.turn_clock("3651 days")
    await passes.run()
    assert table.column("hourly", "run_count") == 1
    table.turn_clock("0")
    table.database.run(f"update pgreact.schedule set {edit}", "update pgreact.schedule set enabled = true")
    await passes.run()
    await session.close()
    assert table.column("hourly", "next_run_at < now() + interval '1 h'")


async def test_a_clock_that_was_behind_for_seconds_fires_nothing(table: Timetable) -> None:
    table.add("hourly", every="'1 h'")
    table.add("monthly", cron="'0 0 1 * *'")
    table.add("edited", every="'1 h'")
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, QueueDelivery())
    await passes.run()
    table.turn_clock("1 h 5 min")
    await passes.run()
    before = [table.column(name, "next_run_at") for name in ("hourly", "monthly")]
    table.turn_clock("-9000 days")
    await replan_all(session, Troubles(Clock()))
    table.database.run("update pgreact.schedule set jitter = '0.001 ms' where name = 'edited'")
    await passes.run()
    assert [table.column(name, "next_run_at") for name in ("hourly", "monthly")] == before
    table.turn_clock("1 h 6 min")
    await passes.run()
    await session.close()
    assert [table.column(name, "run_count") for name in ("hourly", "monthly", "edited")] == [1, 0, 1]
    assert table.column("edited", "next_run_at") == table.column("edited", "created_at + interval '2 h'")


def test_daemon_notices_that_the_clock_was_years_ahead(table: Timetable, leader: Daemon) -> None:
    table.add("hourly", every="'1 h'")
    table.add("monthly", cron="'0 0 1 * *'")
    leader.wait_for("schedule.planned", 2)
    before = table.column("monthly", "next_run_at")
    table.turn_clock("3650 days")
    leader.wait_for("schedule.fired", 2)
    table.turn_clock("0")
    replanned = leader.wait_for("schedule.replanned", schedule="monthly")
    assert replanned["next_run_at"] == before.astimezone(UTC).isoformat()
    assert replanned["instead_of"].startswith("203")
    leader.wait_for("schedule.replanned", schedule="hourly")
    found = json.loads(pgreact("status", "--json", dsn=table.database.dsn).out)["timetable"]["replanned"]
    assert (found["count"], sorted(found["names"])) == (2, ["hourly", "monthly"])
    out = pgreact("status", dsn=table.database.dsn).out
    assert "ago, because the clock had been far ahead: " in out


# ---- direct delivery ---------------------------------------------------------------------------------------


def test_a_message_of_an_occurrence_found_late_expires_from_its_firing(
    table: Timetable, leader: Daemon
) -> None:
    table.direct("late", every="'1 day'", anchor="now() - interval '3 days 1 h'", expires="'5 min'")
    leader.wait_for("schedule.planned", schedule="late")
    table.database.run("update pgreact.schedule set next_run_at = now() - interval '1 h' where name = 'late'")
    expires = datetime.datetime.fromisoformat(table.inbox.take()["expires"])
    left = expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=4) < left < datetime.timedelta(minutes=6)


def test_direct_delivery_sends_the_message_itself(table: Timetable, leader: Daemon) -> None:
    table.direct("now", at="now()", args="'[1]'", expires="'1 h'")
    headers = table.inbox.take()
    fired = leader.wait_for("schedule.fired", schedule="now")
    assert (headers["task"], headers["id"], headers["argsrepr"]) == ("proj.tick", fired["task_id"], "[1]")
    assert headers["periodic_task_name"] == "now"
    assert headers["expires"]
    assert "pgreact_job" not in headers
    assert table.database.value("select count(*) from pgreact.queue") == 0
    assert table.database.value("select task_id::text from pgreact.schedule_history") == fired["task_id"]


def test_a_message_that_cannot_be_made_stops_its_schedule_alone(table: Timetable, leader: Daemon) -> None:
    table.direct("bad", at="now()", options='\'{"serializer": "nope"}\'')
    table.direct("good", at="now()")
    assert table.inbox.take()["periodic_task_name"] == "good"
    leader.wait_for("schedule.fired", schedule="good")
    assert "nope" in leader.wait_for("schedule.failed", schedule="bad")["error"]


def test_a_row_that_cannot_be_written_stops_alone_and_sends_nothing(table: Timetable, leader: Daemon) -> None:
    table.direct("bad", every="'1 day'")
    table.direct("good", every="'1 day'")
    leader.wait_for("schedule.planned", 2)
    table.database.run(
        "alter table pgreact.schedule add constraint no_bad check (name <> 'bad' or run_count = 0)",
        "update pgreact.schedule set next_run_at = now()",
    )
    leader.wait_for("schedule.fired", schedule="good")
    assert "no_bad" in leader.wait_for("schedule.failed", schedule="bad")["error"]
    assert table.column("bad", "state") == "failed"
    assert table.inbox.take()["periodic_task_name"] == "good"
    assert table.inbox.rest() == []


class Slow:
    """A broker that takes a few messages in time, and a clock that it alone moves."""

    def __init__(self, takes: int, seconds: float = 0) -> None:
        self.takes = takes
        self.seconds = seconds  # for each
        self.now = 0.0
        self.posts: list[int] = []
        self.taken: list[str] = []

    async def post(self, messages: Sequence[JobMessage]) -> PublishResult:
        """Take the first ones."""
        sent = list(messages[: self.takes])
        self.now += self.seconds * len(sent)
        self.posts.append(len(messages))
        self.taken += [message.task_id for message in sent]
        return PublishResult(sent, failure=None if len(sent) == len(messages) else "the broker is slow")

    def monotonic(self) -> float:
        """Tell the time."""
        return self.now


async def test_batches_for_a_slow_broker_keep_row_locks_short(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.database.run(
        "insert into pgreact.schedule (name, task, every, delivery) "
        "select 's' || n, 't', '1 h', 'direct' from generate_series(1, 300) n"
    )
    slow = Slow(1000, 1 / 256)
    monkeypatch.setattr("pgreact.timetable.delivery.time", slow)
    delivery = DirectDelivery(slow)
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, delivery)
    await passes.run()  # they are planned
    table.turn_clock("1 h 30 s")
    assert len((await passes.run()).results) == sum(slow.posts) == 300
    assert delivery.batch == 64
    assert max(slow.posts[1:]) <= 64  # a quarter of a second
    slow.seconds = 0
    table.turn_clock("2 h 30 s")
    await passes.run()
    await session.close()
    assert delivery.batch == 500


async def test_schedule_with_more_to_catch_up_than_fits_in_time_makes_progress(table: Timetable) -> None:
    table.direct("all", every="'1 h'", misfire="'all'", catch_up="7")
    table.direct("one", every="'1 h'")
    session = await Session.open(table.database.dsn, "test")
    slow = Slow(3)
    delivery = DirectDelivery(slow)
    passes = Passes(session, delivery)
    assert (await passes.run()).failure is None  # they are planned
    table.turn_clock("10 h 5 min")
    failures = [(await passes.run()).failure for _ in range(3)]
    await session.close()
    assert failures == ["the broker is slow", "the broker is slow", None]
    assert len(slow.taken) == len(set(slow.taken)) == 8
    for name, runs in (("all", 7), ("one", 1)):
        assert table.column(name, "run_count") == runs
        assert table.outcomes(name) == ["fired"] * runs
        assert table.column(name, "next_run_at = created_at + interval '11 h'")
    with table.database.connect() as connection:
        sent = connection.execute("select task_id::text from pgreact.schedule_history").fetchall()
    assert sorted(slow.taken) == sorted(task_id for (task_id,) in sent)


async def test_long_planning_leaves_the_event_loop_to_other_tasks(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(5):
        table.add(f"m{minute}", cron=f"'{minute}-59 * * * *'")
    session = await Session.open(table.database.dsn, "test")
    passes = Passes(session, QueueDelivery())
    await passes.run()
    table.turn_clock("2 days")
    iterations, seen = 0, []

    async def others() -> None:
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    def planned(*arguments: Any) -> Plan:
        seen.append(iterations)
        return plan(*arguments)

    monkeypatch.setattr("pgreact.timetable.firing.plan", planned)
    task = asyncio.create_task(others())
    moved = (await passes.run()).results
    task.cancel()
    await session.close()
    assert len(moved) == len(seen) == len(set(seen)) == 5  # each plan takes milliseconds


# ---- notifications -----------------------------------------------------------------------------------------


def test_flood_of_false_notifications_delays_no_firing(table: Timetable, leader: Daemon) -> None:
    table.add("tick", every="'100 ms'", misfire="'all'")
    leader.wait_for("schedule.fired", schedule="tick")
    with table.database.connect() as connection:
        for _ in range(2000):
            connection.execute("notify pgreact, 'schedule'")
    runs = table.column("tick", "run_count")
    table.until("tick", f"run_count > {runs + 2}")
    assert table.database.value(
        "select count(*) = count(distinct nominal_at) from pgreact.schedule_history where outcome = 'fired'"
    )


def test_edits_while_firing_neither_double_nor_lose(table: Timetable, leader: Daemon) -> None:
    table.add("tick", every="'100 ms'", misfire="'all'", grace="'1 h'")
    leader.wait_for("schedule.fired", schedule="tick")
    with table.database.connect() as connection:
        for n in range(3000):
            connection.execute(
                "update pgreact.schedule set args = %s where name = 'tick'", (json.dumps([n]),)
            )
    table.database.run("update pgreact.schedule set max_runs = run_count + 3")
    eventually(lambda: table.column("tick", "state = 'ended'"), "the last run")
    gaps = table.database.value(
        "select count(*) from (select nominal_at - lag(nominal_at) over (order by nominal_at) as gap "
        "from pgreact.schedule_history where outcome = 'fired') g where gap <> interval '100 ms'"
    )
    assert gaps == 0
    assert table.jobs("tick") == table.column("tick", "run_count")


# ---- history -----------------------------------------------------------------------------------------------


def test_history_is_deleted_after_its_retention(table: Timetable, daemons: Start) -> None:
    table.add("kept", every="'1 day'")
    table.database.run(
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome) values "
        "('kept', now(), now() - interval '1 h', 'fired'), "
        "('kept', now(), now() - interval '25 h', 'fired'), "
        "('gone', now(), now() - interval '1 h', 'fired')"
    )
    daemons(table.database.dsn, table.inbox.url)
    table.database.until("select count(*) = 1 from pgreact.schedule_history")
    assert table.outcomes("kept") == ["fired"]
