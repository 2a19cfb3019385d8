"""The event log: what the daemon and ``apply`` write, and how pages hear of changes."""

from collections.abc import Callable
from typing import Any

import pytest

from pgreact import __version__
from pgreact.daemon import event_writer
from pgreact.daemon.event_writer import EventWriter
from tests.command import pgreact, write
from tests.harness import Daemon, Database, Inbox, one_route
from tests.in_process import running

Start = Callable[..., Daemon]
Install = Callable[..., None]

NAMES = "select coalesce(array_agg(event order by id), '{}') from pgreact.event_log"


class Steps:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> tuple[EventWriter, Steps, list[tuple[str, Any]]]:
    """A writer without a session, its clock, and the events added."""
    added: list[tuple[str, Any]] = []
    clock = Steps()
    writer = EventWriter.__new__(EventWriter)
    writer._clock = clock  # type: ignore[assignment]
    writer._gates = {}
    monkeypatch.setattr(writer, "add", lambda event, _subject, **details: added.append((event, details)))
    return writer, clock, added


def test_elections_and_versions_are_logged_once(
    database: Database, inbox: Inbox, daemons: Start, installed: Install
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    assert database.value(NAMES) == ["schema.applied"]
    first = daemons(database.dsn, inbox.url)
    first.wait_for("leader.elected")
    database.until("select exists (select from pgreact.event_log where event = 'daemon.deployed')")
    assert first.stop() == 0
    second = daemons(database.dsn, inbox.url)
    second.wait_for("leader.elected")
    database.until("select count(*) = 2 from pgreact.event_log where event = 'leader.elected'")
    assert second.stop() == 0
    assert sorted(database.value(NAMES)) == [
        *("daemon.deployed", "leader.elected", "leader.elected", "leader.resigned", "leader.resigned"),
        "schema.applied",
    ]
    actor, subject, version = database.value(
        "select jsonb_build_array(actor, subject, details ->> 'version') from pgreact.event_log "
        "where event = 'leader.elected' order by id limit 1"
    )
    assert actor == f"daemon {subject}"
    assert subject.endswith(f" {first.pid}")
    assert version == __version__


def test_a_leader_that_is_stopped_amid_a_statement_logs_that_it_resigns(
    database: Database, inbox: Inbox, daemons: Start, installed: Install
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    daemon = daemons(database.dsn, inbox.url)
    daemon.wait_for("sweep.finished")
    database.until("select exists (select from pgreact.event_log where event = 'leader.elected')")
    with database.connect(autocommit=False) as other:
        other.execute("lock table pgreact.flight in exclusive mode")
        database.run("insert into job_queue values (1)")
        database.until(
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock' "
            "and application_name like 'pgreact work%' and datname = current_database())"
        )
        assert daemon.stop() == 0
    assert database.value(NAMES)[-1] == "leader.resigned"


async def test_a_gate_that_closes_is_logged(
    database: Database, inbox: Inbox, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox, gate="closed"))
    async with running(database, inbox.url, monkeypatch) as run:
        logged = "select exists (select from pgreact.event_log where event = 'gate.closed')"
        database.run("insert into job_queue values (1)")
        await run.until(lambda: database.value(logged), "the event")


def test_a_busy_gate_adds_an_event_in_ten_minutes_and_counts_the_rest(
    events: tuple[EventWriter, Steps, list[tuple[str, Any]]],
) -> None:
    writer, clock, added = events
    for mode in ("closed", "open", "closed", "open"):
        writer.gate_changed("dispatch", mode)
        clock.now += 1
    writer.gate_changed("other", "closed")
    clock.now += event_writer.GATE_PAUSE
    writer.gate_changed("dispatch", "closed")
    assert added == [
        ("gate.closed", {}),
        ("gate.closed", {}),
        ("gate.closed", {"changes_since_last": 3}),
    ]


def test_changes_by_users_are_logged_with_their_name(database: Database, installed: Install) -> None:
    installed(database, {"lanes": {"mail": {}}, "schedules": {"nightly": {"task": "t", "every": "1d"}}})
    database.run("truncate pgreact.event_log")
    with database.connect(autocommit=False) as connection:
        connection.execute("set local pgreact.actor = 'ann'")
        connection.execute("update pgreact.lane set paused = true where name = 'mail'")
        connection.execute("update pgreact.lane set weight = weight, origin = origin")
        connection.execute("update pgreact.schedule set enabled = false")
        connection.commit()
        connection.execute("update pgreact.lane set paused = false, weight = 3 where name = 'mail'")
        connection.execute("update pgreact.lane set weight = 4 where name = 'mail'")
        connection.rollback()
        connection.execute("update pgreact.lane set weight = 5 where name = 'mail'")
        connection.commit()
    with database.connect() as connection:
        found = connection.execute(
            "select event, subject, actor, details from pgreact.event_log order by id"
        ).fetchall()
    [user] = {row[2] for row in found} - {"ann"}
    assert user == database.value("select session_user::text")
    assert [(row[0], row[1], row[3]) for row in found] == [
        ("lane.paused", "mail", {"paused": [False, True]}),
        ("schedule.disabled", "nightly", {}),
        ("lane.changed", "mail", {"weight": [1, 5]}),
    ]


def test_a_transaction_of_many_changes_adds_twenty_one_events(database: Database, installed: Install) -> None:
    schedules = {f"s{number:03}": {"task": "t", "every": "1d"} for number in range(50)}
    installed(database, {"schedules": schedules})
    subjects = (
        "select array_agg(subject order by id) from pgreact.event_log where event = 'schedule.disabled'"
    )
    for _ in range(2):
        database.run(
            "update pgreact.schedule set enabled = false", "update pgreact.schedule set enabled = true"
        )
    found = database.value(subjects)
    assert found[20] == found[41] == "(more)"
    assert (len(found), len(set(found))) == (42, 21)


def test_the_log_keeps_ten_thousand_rows_and_ninety_days(database: Database, installed: Install) -> None:
    installed(database, {})
    database.run(
        "truncate pgreact.event_log restart identity",
        "alter table pgreact.event_log disable trigger user",
        "insert into pgreact.event_log (event, subject, actor, at) select 'a.b', n::text, 'x', "
        "now() - case when n <= 400 then interval '91 days' else '0' end from generate_series(1, 10500) n",
        "do $$ begin perform pgreact.log_event('a.b', 'more') from generate_series(1, 200); end $$",
    )
    count, first = database.value("select jsonb_build_array(count(*), min(id)) from pgreact.event_log")
    assert (count, first) == (10_000, 701)


def test_pages_hear_of_events_and_flights(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    with database.connect() as listener:
        listener.execute("listen pgreact_live")
        heard: set[str] = set()

        def hear(payload: str) -> None:
            for notification in listener.notifies(timeout=20):
                heard.add(notification.payload)
                if payload in heard:
                    return
            raise AssertionError(f"{payload} not heard, but {heard}")

        daemon = daemons(database.dsn, inbox.url)
        daemon.wait_for("sweep.finished", dispatch=False)
        hear("event")
        heard.clear()
        database.run("insert into job_queue values (1)")
        hear("flight")
    assert daemon.stop() == 0
    assert not daemon.seen("notification.rejected")


def test_an_apply_without_steps_adds_no_event(database: Database) -> None:
    write("[lanes.mail]\nweight = 2\n")
    for _ in range(2):
        assert pgreact("apply", dsn=database.dsn).code == 0
    with database.connect() as connection:
        [[details]] = connection.execute(
            "select details from pgreact.event_log where event = 'schema.applied'"
        ).fetchall()
    assert details["count"] == len(details["steps"]) == 6
    assert details["steps"][-1].startswith("+ lane mail")
