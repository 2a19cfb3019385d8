"""``pgreact why`` for schedules and routes, and the command itself; jobs are in ``test_queue_why.py``."""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgreact.cli import route_why
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.postgres.session import Session
from pgreact.timetable import why as schedule_why
from pgreact.timetable.delivery import QueueDelivery
from tests.command import pgreact
from tests.harness import Database, install
from tests.queue_steps import Queue, queue_database
from tests.timetable import Passes

Pass = Callable[[], Any]
ROUTE = {
    "task": "proj.dispatch",
    "ready": "select exists (select from public.work)",
    "tables": [{"table": "work", "on": ["insert"]}],
}


@pytest.fixture(scope="module")
def module_database(postgres: EmbeddedPostgres) -> Iterator[Queue]:
    """A database with a lane and a route, shared by the tests of this module."""
    with queue_database(postgres) as found:
        found.run("create table work (id int)")
        install(found, {"lanes": {"mail": {}}, "routes": {"dispatch": ROUTE}})
        yield found


@pytest.fixture
def base(module_database: Queue) -> Iterator[Queue]:
    """The database, with sessions that hold the locks of a leader and of the process that fires."""
    module_database.run("delete from pgreact.schedule", "delete from pgreact.schedule_history")
    module_database.run("truncate pgreact.queue, pgreact.in_progress", "delete from pgreact.flight")
    with _holding(module_database, "leader"), _holding(module_database, "timetable"):
        yield module_database


@contextlib.contextmanager
def _holding(database: Database, purpose: str, number: int = 0, name: str = "") -> Iterator[None]:
    """Hold an advisory lock of pgreact in a session."""
    with database.connect(application_name=name) as session:
        session.execute("select pg_advisory_lock(pgreact.lock_class(%s), %s)", (purpose, number))
        yield
        session.execute("select pg_advisory_unlock_all()")


@pytest.fixture
async def fire(base: Queue) -> Callable[[], Any]:
    """Make one pass of the process that fires."""

    async def run() -> None:
        session = await Session.open(base.dsn, "timetable")
        try:
            await Passes(session, QueueDelivery()).run()
        finally:
            await session.close()

    return run


def _schedule(database: Database, name: str = "nightly report") -> dict[str, Any]:
    with database.connect() as connection:
        return schedule_why.why(connection, name)


def _route(database: Database, name: str = "dispatch") -> dict[str, Any]:
    with database.connect() as connection:
        return route_why.why(connection, name)


def _codes(found: dict[str, Any]) -> list[str]:
    return [cause["code"] for cause in found["causes"]]


def _text(found: dict[str, Any]) -> str:
    return "\n".join(cause["text"] for cause in found["causes"])


def _add(database: Database, **columns: str) -> None:
    columns = {"name": "'nightly report'", "task": "'t'", "cron": "'30 2 * * *'", **columns}
    columns = {name: value for name, value in columns.items() if value}
    database.run(
        f"insert into pgreact.schedule ({', '.join(columns)}) values ({', '.join(columns.values())})"
    )


# ---- schedules ---------------------------------------------------------------------------------------------


async def test_a_schedule_tells_its_next_run_in_its_zone(base: Queue, fire: Pass) -> None:
    _add(base, timezone="'Europe/Paris'")
    assert _codes(_schedule(base)) == ["new"]
    await fire()
    found = _schedule(base)
    assert (found["verdict"], _codes(found)) == ("waits", ["waits"])
    assert found["causes"][0]["known_at"] == base.value("select next_run_at from pgreact.schedule")
    assert "02:30:00 Europe/Paris, in " in _text(found)
    said = pgreact("why", "nightly report", dsn=base.dsn)
    assert said.out.startswith('schedule "nightly report" waits for its next occurrence:\n  next run at ')


async def test_a_schedule_waits_for_start_at(base: Queue, fire: Pass) -> None:
    _add(base, start_at="now() + interval '3 days'")
    await fire()
    assert ", after start_at " in _text(_schedule(base))


def test_a_disabled_schedule_names_the_command_that_enables_it(base: Queue) -> None:
    _add(base, enabled="false")
    found = _schedule(base)
    assert (found["verdict"], _codes(found)) == ("disabled", ["disabled"])
    assert "\"pgreact schedule enable 'nightly report'\" plans it again" in _text(found)


def test_occurrences_that_were_not_fired_are_counted(base: Queue) -> None:
    _add(base, misfire_count="11")
    assert "11 occurrences so far were missed or skipped" in _text(_schedule(base))
    base.run("update pgreact.schedule set misfire_count = 1")
    assert "1 occurrence so far was missed or skipped" in _text(_schedule(base))


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"cron": "", "at": "'2020-01-01Z'", "start_at": ""},
            "its only occurrence was 2020-01-01 00:00:00 UTC",
        ),
        ({"start_at": "'2020-01-01Z'", "end_at": "'2020-01-02Z'"}, "end_at was 2020-01-02 00:00:00 UTC"),
        ({"max_runs": "1", "run_count": "1"}, "max_runs: it has run 1 of 1 times"),
        (
            {"cron": "", "rrule": "'FREQ=DAILY;COUNT=1'", "anchor": "'2020-01-01Z'"},
            "its rule has no further occurrence",
        ),
    ],
)
async def test_an_ended_schedule_tells_why(
    base: Queue, fire: Pass, columns: dict[str, str], text: str
) -> None:
    _add(base, misfire="'skip'", **columns)
    await fire()
    found = _schedule(base)
    assert (found["verdict"], found["causes"][0]["code"]) == ("ended", "ended")
    assert text in _text(found)


async def test_a_schedule_whose_lane_is_gone_is_held_up_and_fails_at_its_next_run(
    base: Queue, fire: Pass
) -> None:
    base.run("insert into pgreact.lane (name) values ('gone')")
    _add(base, lane="'gone'")
    await fire()
    base.run("delete from pgreact.lane where name = 'gone'")
    found = _schedule(base)
    assert (found["verdict"], _codes(found)) == ("held", ["no_lane", "waits"])
    with base.connect() as connection:
        connection.execute("set session_replication_role = replica")  # the trigger would refuse the edit
        connection.execute("update pgreact.schedule set next_run_at = now()")
    await fire()
    found = _schedule(base)
    assert (found["verdict"], _codes(found)[0]) == ("failed", "failed")
    assert 'no lane "gone" in pgreact.lane' in _text(found)


async def test_a_schedule_is_held_up_without_a_process_that_fires(module_database: Queue) -> None:
    module_database.run("delete from pgreact.schedule", "delete from pgreact.schedule_history")
    _add(module_database)
    found = _schedule(module_database)
    assert (found["verdict"], _codes(found)) == ("held", ["no_leader", "new"])


def test_an_overdue_schedule_tells_what_fails(base: Queue) -> None:
    _add(base)
    base.run(
        "update pgreact.schedule set next_run_at = now() - interval '3 min'",
        "insert into pgreact.trouble (source, subject, error, since) "
        "values ('listen', 'schedule nightly report', 'permission denied', now())",
    )
    try:
        assert _schedule(base)["verdict"] == "due"
        with base.connect(application_name="pgreact leader host 1 1"):
            found = _schedule(base)
            assert (found["verdict"], _codes(found)) == ("held", ["leader_failing", "due"])
        assert "schedule nightly report fails, and is tried again: permission denied" in _text(found)
        assert "is due for 3m" in _text(found)
    finally:
        base.run("delete from pgreact.trouble")


async def test_an_overlapping_schedule_shows_the_job_that_it_waits_for(base: Queue, fire: Pass) -> None:
    _add(base, overlap="false", lane="'mail'", retention="'1 day'")
    for _ in range(2):
        base.run("update pgreact.schedule set next_run_at = now()")
        await fire()
    found = _schedule(base)
    job = base.value("select last_job from pgreact.schedule")
    assert _codes(found) == ["waits", "overlap", "overlapped"]
    assert f"occurrences are dropped until job {job} ends" in _text(found)
    assert found["last_job"]["runs_next"]
    said = pgreact("why", "schedule:nightly report", dsn=base.dsn)
    assert f"  last fired: job {job} (t, lane mail) runs next" in said.out


async def test_a_misfire_tells_how_late_it_was_found_and_by_which_policy(base: Queue, fire: Pass) -> None:
    _add(base, misfire="'skip'", retention="'1 day'", cron="", every="'1 h'", anchor="'2020-01-01 00:00Z'")
    await fire()
    base.run(
        "update pgreact.schedule set next_nominal_at = date_trunc('hour', now()) - interval '3 h', "
        "next_run_at = date_trunc('hour', now()) - interval '3 h', grace = '1 s', state = 'planned', "
        "last_nominal_at = date_trunc('hour', now()) - interval '4 h'"
    )
    await fire()
    found = _schedule(base)
    assert found["causes"][-1]["code"] == "missed"
    assert "with misfire = skip and grace 1s" in _text(found)


# ---- routes ------------------------------------------------------------------------------------------------


def test_a_route_waits_for_a_signal(base: Queue) -> None:
    found = _route(base)
    assert (found["verdict"], _codes(found)) == ("idle", ["not_ready", "no_dispatch"])
    assert "its ready query returns false now" in _text(found)
    base.run("insert into work values (1)")
    assert _codes(_route(base)) == ["sweep", "no_dispatch"]
    base.run("truncate work")
    said = pgreact("why", "route:dispatch", dsn=base.dsn)
    assert said.out.startswith("route dispatch waits for a signal:\n  a sweep looks for work")


def test_the_route_of_the_queue_has_no_dispatch(base: Queue) -> None:
    assert "no_dispatch" not in _codes(_route(base, "pgreact.queue"))


def test_a_ready_query_cannot_write_and_its_failure_is_shown(base: Queue) -> None:
    ready = "with w as (insert into public.work values (1) returning true as x) select x from w"
    base.value("update pgreact.route set ready = %s where name = 'dispatch' returning true", ready)
    try:
        text = _text(_route(base))
    finally:
        base.value(
            "update pgreact.route set ready = %s where name = 'dispatch' returning true", ROUTE["ready"]
        )
    assert "its ready query fails here, which counts as true: cannot execute SELECT in a read-only" in text
    assert base.value("select count(*) from work") == 0


def test_a_route_shows_what_keeps_it_from_dispatching(base: Queue) -> None:
    route = base.value("select id from pgreact.route where name = 'dispatch'")
    base.run(
        f"alter table work disable trigger pgreact_{route}_insert",
        "insert into pgreact.flight (route_id, error, unstarted_since) "
        f"values ({route}, 'connection refused', now() - interval '3 min')",
    )
    try:
        found = _route(base)
    finally:
        base.run(f"alter table work enable trigger pgreact_{route}_insert")
    assert found["verdict"] == "failing"
    assert _codes(found)[:3] == ["dispatch_failing", "trigger", "unstarted"]
    for text in (
        "the last dispatch failed, and is tried again: connection refused",
        'insert on public.work does not signal: trigger disabled: run "pgreact apply"',
        "no worker starts proj.dispatch, for 3m",
    ):
        assert text in _text(found)


def test_a_route_shows_its_flight_window_and_gate(base: Queue) -> None:
    route = base.value("select id from pgreact.route where name = 'dispatch'")
    base.run(
        "insert into pgreact.flight (route_id, published_at, dispatches, in_flight_since, dirty_since, gate, "
        f"gate_since) values ({route}, now() + interval '1 h', 7, now() - interval '3 min', now(), 'closed', "
        "now())"
    )
    found = _route(base)
    assert (found["verdict"], _codes(found)[:3]) == ("in_flight", ["in_flight", "dirty", "gate_closed"])
    assert found["causes"][1]["known_at"] > datetime.datetime.now(datetime.UTC)
    assert "is in flight for 3m, no worker runs it yet" in _text(found)
    assert "its window of 100ms is not over" in _text(found)
    assert "the leader polls each 40ms" in _text(found)
    with _holding(base, "run", route, "worker-3"):
        assert "is in flight for 3m, on worker-3 (pid " in _text(_route(base))


def test_a_route_shows_that_nothing_would_signal_it(base: Queue) -> None:
    base.run("insert into pgreact.route (name, task, sweep) values ('bare', 't', '0')")
    found = _route(base, "bare")
    assert _codes(found) == ["no_tables", "no_sweep", "no_dispatch"]


def test_a_route_needs_a_leader(module_database: Queue) -> None:
    assert _codes(_route(module_database))[0] == "no_leader"


# ---- the command -------------------------------------------------------------------------------------------


def test_a_job_is_explained_as_json(base: Queue) -> None:
    job = base.add(lane="'mail'")
    report = pgreact("why", "--json", str(job), dsn=base.dsn).report()
    assert (report["verdict"], report["runs_next"], report["job"]["lane"]) == ("next", True, "mail")
    assert pgreact("why", f"job:{job}", dsn=base.dsn).out.startswith(f"job {job} (t, lane mail) runs next")


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        ("nightly reprot", 'no schedule "nightly reprot"; did you mean "nightly report"?'),
        ("dispatch", 'no schedule "dispatch"; did you mean "route:dispatch"?'),
        ("route:dispach", 'no route "dispach"; did you mean "dispatch"?'),
        ("route:", "route: lacks the route's name: write route:NAME"),
        ("job:", "job: lacks the job's id: write job:ID"),
        ("42", '"42" is a schedule, and may be a job: write job:42 or schedule:42'),
        ("job:x", "job x: the id of a job is a number from 1 to 9223372036854775807"),
        ("0", "job 0: the id of a job is a number from 1"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(base: Queue, subject: str, error: str) -> None:
    _add(base)
    _add(base, name="'42'")
    said = pgreact("why", subject, dsn=base.dsn)
    assert (said.code, said.out) == (2, "")
    assert error in said.err


def test_every_answer_is_json_for_programs(base: Queue) -> None:
    _add(base)
    for subject in ("nightly report", "route:dispatch", "1"):
        assert json.loads(pgreact("why", "--json", subject, dsn=base.dsn).out)["causes"]
