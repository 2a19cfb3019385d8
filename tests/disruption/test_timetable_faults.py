"""Whatever dies, and whenever: each occurrence of a schedule is fired, and none twice."""

import signal
from collections.abc import Callable, Iterator

import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests.disruption.proxy import Proxy
from tests.harness import Daemon, Database, Inbox, by_way_of
from tests.timetable import Timetable

Start = Callable[..., Daemon]
Install = Callable[..., None]

# misfire 'all': what was due meanwhile is made up for, so that nothing may be missing
EACH = {"misfire": "'all'", "catch_up": "10000", "grace": "'1 h'"}


@pytest.fixture
def table(database: Database, inbox: Inbox, installed: Install) -> Timetable:
    """A timetable with a schedule that is due ten times a second, and remembers."""
    installed(database)
    database.run("insert into pgreact.lane (name, paused) values ('held', true)")
    table = Timetable(database, inbox)
    table.add("tick", every="'100 ms'", **EACH)
    return table


def pair(table: Timetable, daemons: Start) -> list[Daemon]:
    """A daemon that fires, and one that waits."""
    leader = daemons(table.database.dsn, table.inbox.url)
    leader.wait_for("schedule.fired", 2)
    standby = daemons(table.database.dsn, table.inbox.url)
    standby.wait_for("standby.waiting")
    return [leader, standby]


def each_once(table: Timetable, name: str = "tick") -> int:
    """Prove that a schedule was fired without a gap or a double, each with one job; return how often."""
    table.database.run(f"update pgreact.schedule set enabled = false where name = '{name}'")
    with table.database.connect() as connection:
        row = connection.execute(
            "select count(*), count(distinct nominal_at), count(distinct job), "
            "count(*) filter (where gap <> interval '100 ms') from ("
            "  select *, nominal_at - lag(nominal_at) over (order by nominal_at) as gap"
            "  from pgreact.schedule_history where schedule = %s and outcome = 'fired') h",
            (name,),
        ).fetchone()
    assert row is not None
    fired, moments, jobs, gaps = row
    assert (moments, jobs, gaps) == (fired, fired, 0)
    assert table.jobs(name) == fired == table.column(name, "run_count")
    return int(fired)


def fires_on(daemon: Daemon, table: Timetable) -> None:
    """Wait until a daemon has fired what there was to make up for, and goes on."""
    fired = len(daemon.seen("schedule.fired", schedule="tick"))
    daemon.wait_for("schedule.fired", fired + 3, schedule="tick")


def test_a_leader_killed_again_and_again(table: Timetable, daemons: Start) -> None:
    running = pair(table, daemons)
    for _ in range(5):
        running.pop(0).kill()
        fires_on(running[0], table)
        running.append(daemons(table.database.dsn, table.inbox.url))
        running[1].wait_for("standby.waiting")
    assert each_once(table) > 15


# What each of the leader's statements waits for, held by another session.
_STATEMENTS = {
    "looking": "lock table pgreact.schedule in access exclusive mode",
    "locking": "select from pgreact.schedule where name = 'tick' for update",
    "enqueueing": "lock table pgreact.queue in share row exclusive mode",
    "remembering": "lock table pgreact.schedule_history in share row exclusive mode",
}


@pytest.mark.parametrize("statement", _STATEMENTS)
def test_a_leader_killed_in_the_midst_of_a_statement(
    statement: str, table: Timetable, daemons: Start
) -> None:
    leader, standby = pair(table, daemons)
    with table.database.connect(autocommit=False) as connection:
        connection.execute(_STATEMENTS[statement].encode())
        if statement == "locking":  # which it does not wait for
            fired = len(leader.seen("schedule.fired"))
            table.add("other", every="'100 ms'", **EACH)
            leader.wait_for("schedule.fired", fired + 1)
        else:
            table.database.until(
                "select exists (select from pg_stat_activity "
                "where application_name ~ '^pgreact timetable' and wait_event_type = 'Lock' "
                "and query !~ 'pgreact.acquire_lock')"
            )
        leader.kill()
        connection.rollback()
    fires_on(standby, table)
    each_once(table)


def test_a_leader_killed_once_the_commit_is_done(table: Timetable, daemons: Start) -> None:
    leader, standby = pair(table, daemons)
    with table.database.connect() as connection:
        connection.execute("listen fired")
        # notified by the commit itself, before the daemon can have done anything else
        connection.execute(
            "create function fired() returns trigger language plpgsql as "
            "$$ begin notify fired; return null; end $$"
        )
        connection.execute(
            "create trigger fired after insert on pgreact.schedule_history execute function fired()"
        )
        next(connection.notifies(timeout=20))
        leader.kill()
    fires_on(standby, table)
    each_once(table)


def test_a_leader_that_dies_between_message_and_commit_sends_under_the_same_task_id(
    table: Timetable, daemons: Start
) -> None:
    table.direct("sent", every="'1 day'")
    leader = daemons(table.database.dsn, table.inbox.url)
    leader.wait_for("schedule.planned", schedule="sent")
    # the commit waits for this lock
    table.database.run(
        "create function wait() returns trigger language plpgsql as "
        "$$ begin perform pg_advisory_xact_lock_shared(4711); return null; end $$",
        "create constraint trigger wait after update on pgreact.schedule deferrable initially deferred "
        "for each row when (new.delivery = 'direct' and new.run_count > 0) execute function wait()",
    )
    held = "from pg_stat_activity where application_name ~ '^pgreact messages' and wait_event = 'advisory'"
    with table.database.connect() as connection:
        connection.execute("select pg_advisory_lock(4711)")
        table.run_now("sent")
        first = table.inbox.take()
        table.database.until(f"select exists (select {held})")
        leader.kill()
        connection.execute(f"select pg_terminate_backend(pid, 5000) {held}".encode())
    assert table.column("sent", "run_count") == 0
    daemons(table.database.dsn, table.inbox.url).wait_for("schedule.fired", schedule="sent")
    again = table.inbox.take()
    assert (again["id"], again["pgreact_occurrence"]) == (first["id"], first["pgreact_occurrence"])
    assert table.column("sent", "run_count") == 1
    assert table.inbox.rest() == []


def test_a_frozen_leader_that_thaws_after_the_takeover(table: Timetable, daemons: Start) -> None:
    leader, standby = pair(table, daemons)
    leader.signal(signal.SIGSTOP)
    try:
        standby.wait_for("timetable.acquired", deadline=60)
        fires_on(standby, table)
    finally:
        leader.signal(signal.SIGCONT)
    leader.wait_for("listener.lost")
    fires_on(standby, table)
    each_once(table)


def test_a_leader_frozen_before_it_fires_is_too_late(table: Timetable, daemons: Start) -> None:
    # its statement is on its way when it is frozen: the server runs it, or a later turn refuses it
    leader, standby = pair(table, daemons)
    with table.database.connect(autocommit=False) as connection:
        connection.execute("lock table pgreact.queue in share row exclusive mode")
        table.database.until(
            "select exists (select from pg_stat_activity where application_name like 'pgreact timetable%' "
            "and wait_event_type = 'Lock' and query like '%fire%')"
        )
        leader.signal(signal.SIGSTOP)
        table.database.run(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name ~ '^pgreact (leader|work)'"
        )
        connection.rollback()
    standby.wait_for("leader.elected")
    leader.signal(signal.SIGCONT)
    leader.wait_for("listener.lost")
    standby.wait_for("timetable.acquired")
    fires_on(standby, table)
    each_once(table)


@pytest.fixture
def own_table(own_postgres: EmbeddedPostgres, inbox: Inbox, installed: Install) -> Timetable:
    """A timetable on a server of its own."""
    database = Database(own_postgres.dsn())
    installed(database)
    database.run("insert into pgreact.lane (name, paused) values ('held', true)")
    table = Timetable(database, inbox)
    table.add("tick", every="'100 ms'", **EACH)
    return table


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_restarted(
    how: str, own_table: Timetable, own_postgres: EmbeddedPostgres, daemons: Start
) -> None:
    pair(own_table, daemons)
    own_postgres.stop(how)
    own_postgres.start()
    own_table.database.until(
        "select exists (select from pg_stat_activity where application_name ~ 'timetable')"
    )
    runs = own_table.column("tick", "run_count")
    own_table.until("tick", f"run_count > {runs + 5}")
    each_once(own_table)


# ---- the broker --------------------------------------------------------------------------------------------


@pytest.fixture
def way(redis_url: str) -> Iterator[Proxy]:
    """A way to Redis that can be cut."""
    with Proxy(int(redis_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])) as proxy:
        yield proxy


@pytest.mark.parametrize("policy", ["coalesce", "skip", "all"])
def test_a_broker_away_for_several_periods(
    policy: str, table: Timetable, daemons: Start, way: Proxy, redis_url: str
) -> None:
    table.direct("sent", every="'100 ms'", misfire=f"'{policy}'", grace="'50 ms'", catch_up="10000")
    leader = daemons(table.database.dsn, by_way_of(redis_url, way.port))
    leader.wait_for("schedule.fired", 2, schedule="sent")
    way.set("refuse")
    way.reset()
    leader.wait_for("delivery.failed")
    fires_on(leader, table)  # the queue's schedules do not mind
    before = table.column("sent", "run_count")
    table.until("tick", "run_count > 20")
    assert table.column("sent", "run_count") == before
    way.set("pass")
    leader.wait_for("delivery.recovered")
    leader.wait_for("schedule.misfired", schedule="sent", policy=policy)
    table.database.run("update pgreact.schedule set enabled = false")
    with table.database.connect() as connection:
        nominal = [
            row[0].isoformat()
            for row in connection.execute(
                "select nominal_at from pgreact.schedule_history "
                "where schedule = 'sent' and outcome = 'fired' order by nominal_at"
            )
        ]
    sent = [headers["pgreact_occurrence"] for headers in table.inbox.rest()]
    assert sorted(set(sent)) == nominal  # none lost, none that is not known
    assert len(sent) - len(set(sent)) <= 1  # the one whose answer was cut off
    missed = table.column("sent", "misfire_count")
    assert (missed == 0) == (policy == "all")
