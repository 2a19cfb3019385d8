"""Notifications in excess: a flood by a role without rights, and a queue that some listener keeps full."""

import json
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests import servers
from tests.conftest import MAJOR
from tests.harness import Daemon, Database, Inbox, one_route

Install = Callable[..., None]
Start = Callable[..., Daemon]

# more than a daemon takes before it hangs up, in one transaction; each is another one, so that none is folded
FLOOD = "select pg_notify('pgreact', 'flood ' || n) from generate_series(1, 60000) n"


def test_flood_costs_neither_the_leadership_nor_the_jobs(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)", f"create role noisy {database.login}")
    try:
        installed(database, one_route(inbox))
        daemon = daemons(database.dsn, inbox.url)
        daemon.wait_for("sweep.finished", route="dispatch")
        with psycopg.connect(database.dsn, user="noisy", autocommit=True) as noisy:
            noisy.execute(FLOOD.encode())
            suspended = daemon.wait_for("listener.suspended")
            assert "flood" in suspended["reason"]
            daemon.wait_for("gate.closed", route="dispatch")
            noisy.execute(FLOOD.encode())  # the listener is disconnected

        # writers and jobs are found by polls meanwhile
        published = len(daemon.seen("dispatch.published"))
        database.run("insert into job_queue values (1)")
        daemon.wait_for("dispatch.published", count=published + 1, deadline=2)
        dispatched = len(daemon.seen("queue.dispatched"))
        options = json.dumps(inbox.options)
        database.run(f"select pgreact.enqueue('proj.job', options => '{options}')")
        daemon.wait_for("queue.dispatched", count=dispatched + 1, deadline=2)
        database.until("select exists (select from pgreact.trouble where subject = 'notifications')")

        # and by notifications when it is over
        daemon.wait_for("listener.resumed", deadline=20)
        daemon.wait_for("gate.opened", route="dispatch")
        published = len(daemon.seen("dispatch.published"))
        database.run("insert into job_queue values (2)")
        daemon.wait_for("dispatch.published", count=published + 1, deadline=2)
        assert not daemon.seen("leader.lost")
        database.until("select not exists (select from pgreact.trouble)")
    finally:
        database.run("drop role noisy")


def _fill(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    for number in range(1000):
        connection.execute("select pg_notify('unrelated', repeat('x', 7000) || %s)", (str(number),))


@pytest.fixture
def small_queue() -> Iterator[Database]:
    """A database on a server whose queue of notifications is small."""
    if MAJOR < 17:
        pytest.skip("max_notify_queue_pages came with PostgreSQL 17")
    with servers.Postgres(
        bindir=servers.postgres_binaries(MAJOR), settings={"max_notify_queue_pages": "64"}
    ) as server:
        yield Database(server.dsn())


def test_full_queue_of_notifications_costs_neither_the_leadership_nor_a_writer(
    small_queue: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database = small_queue
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    daemons_ = [daemons(database.dsn, inbox.url).ready(), daemons(database.dsn, inbox.url).ready()]
    leader = next(daemon for daemon in daemons_ if daemon.seen("leader.elected"))
    leader.wait_for("sweep.finished", route="dispatch")
    with database.connect() as late, database.connect() as filler:
        late.execute("listen unrelated")
        late.execute("begin")
        late.execute("select 1")  # as long as it is in a transaction, nothing it has not read goes away
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            _fill(filler)

        suspended = leader.wait_for("listener.suspended", deadline=30)
        assert "full" in suspended["reason"]
        leader.wait_for("gate.closed", route="dispatch")
        database.run("insert into job_queue values (1)")  # with the gate open it would fail
        leader.wait_for("dispatch.published", deadline=5)
        dispatched = len(leader.seen("queue.dispatched"))
        database.run(f"select pgreact.enqueue('proj.job', options => '{json.dumps(inbox.options)}')")
        leader.wait_for("queue.dispatched", count=dispatched + 1, deadline=5)
        # gates can be closed, and schedules edited, without a notification
        database.run("update pgreact.route set gate = 'closed' where name = 'dispatch'")
        database.run("insert into pgreact.schedule (name, task, every) values ('s', 'proj.s', '1 h')")
        leader.wait_for("schedule.planned", deadline=10)
        late.execute("commit")

    leader.wait_for("listener.resumed", deadline=30)
    for daemon in daemons_:
        assert daemon.process.poll() is None
        assert not daemon.seen("leader.lost")
        assert not daemon.seen("listener.lost")
