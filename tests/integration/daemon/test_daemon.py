"""A commit becomes one Celery call: the daemon as a process, on real parts."""

import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.command import pgreact, write
from tests.harness import NEVER, Daemon, Database, Inbox, one_route

Start = Callable[..., Daemon]
Install = Callable[..., None]


@pytest.fixture
def leader(database: Database, inbox: Inbox, installed: Install, daemons: Start) -> Daemon:
    """A daemon that leads and has nothing to do."""
    database.run("create table job_queue (id int primary key, note text)")
    installed(database, one_route(inbox))
    daemon = daemons(database.dsn, inbox.url)
    daemon.wait_for("sweep.finished", dispatch=False, route="dispatch")
    return daemon


def test_a_commit_becomes_one_call(leader: Daemon, database: Database, inbox: Inbox) -> None:
    database.run("insert into job_queue values (1)")

    published = leader.wait_for("dispatch.published")
    message = inbox.take()
    assert (message["task"], message["id"]) == ("proj.dispatch", published["task_id"])
    assert message["expires"] is not None
    assert published["signals"] == 1
    assert leader.stop() == 0
    assert not inbox.rest()


def test_a_rolled_back_change_never_becomes_a_call(leader: Daemon, database: Database, inbox: Inbox) -> None:
    with database.connect(autocommit=False) as connection:
        connection.execute("insert into job_queue values (1)")
        connection.rollback()
        connection.execute("select 1")
        connection.execute("savepoint s")
        connection.execute("insert into job_queue values (2)")
        connection.execute("rollback to savepoint s")
        connection.commit()
        connection.execute("update job_queue set note = 'of no row'")
        connection.commit()
    # a dispatch that they caused would come before this one
    database.run("insert into job_queue values (3)")

    leader.wait_for("dispatch.published")
    assert leader.stop() == 0
    assert [event["signals"] for event in leader.seen("dispatch.published")] == [1]
    assert len(inbox.rest()) == 1


def test_ten_thousand_signals_in_one_window_make_two_calls_at_most(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox, window="1h", gate="open"))  # so that each commit notifies
    daemon = daemons(database.dsn, inbox.url)
    daemon.wait_for("sweep.finished", route="dispatch")
    loop = "for i in 1..10000 loop insert into job_queue values (i); commit; end loop"
    database.run(f"do $$ begin {loop}; end $$")
    database.run("update pgreact.route set \"window\" = '1 ms'")  # let the trailing dispatch go

    daemon.wait_for("dispatch.published", count=2)
    daemon.wait_for("route.changed")
    assert daemon.stop() == 0
    published = daemon.seen("dispatch.published")
    assert sum(event["signals"] for event in published) == 10_000
    assert len(published) == len(inbox.rest()) == 2


def test_every_kind_of_change_reaches_the_queue(leader: Daemon, database: Database, inbox: Inbox) -> None:
    for statement in (
        "insert into job_queue values (1)",
        "update job_queue set note = 'x'",
        "delete from job_queue",
        "truncate job_queue",
        "select pgreact.signal('dispatch')",
    ):
        database.run(statement)
        inbox.take()
    assert leader.stop() == 0
    assert not inbox.rest()


def test_options_of_a_route_reach_the_message(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    options = {**inbox.options, "args": [1, "two"], "kwargs": {"three": 3}, "headers": {"source": "pgreact"}}
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox, options=options, countdown="2s", expires=NEVER))
    daemons(database.dsn, inbox.url).wait_for("sweep.finished")
    database.run("insert into job_queue values (1)")

    message = inbox.take()
    assert message["argsrepr"] == "[1, 'two']"
    assert message["kwargsrepr"] == "{'three': 3}"
    assert message["source"] == "pgreact"
    assert message["eta"] is not None
    assert message["expires"] is None


def test_a_route_changed_in_sql_is_in_force_without_restart(
    leader: Daemon, database: Database, inbox: Inbox
) -> None:
    database.run("update pgreact.route set task = 'proj.other'")
    leader.wait_for("route.changed", change="changed", keys=["task"])
    database.run("insert into job_queue values (1)")
    assert inbox.take()["task"] == "proj.other"

    database.run(
        "insert into pgreact.route (name, task, options) "
        f"values ('scale', 'proj.scale', '{{\"queue\": \"{inbox.queue}\"}}')",
    )
    leader.wait_for("route.changed", route="scale", change="added")
    leader.wait_for("sweep.finished", route="scale", reason="added")
    assert inbox.take()["task"] == "proj.scale"

    database.run(
        "select pgreact.attach('job_queue', 'scale', '{insert}')", "insert into job_queue values (2)"
    )
    assert {inbox.take()["task"], inbox.take()["task"]} == {"proj.scale", "proj.other"}

    database.run("delete from pgreact.route where name = 'dispatch'")
    leader.wait_for("route.changed", route="dispatch", change="removed")
    database.run("insert into job_queue values (3)")
    assert inbox.take()["task"] == "proj.scale"
    assert leader.stop() == 0
    assert not inbox.rest()


def test_a_backstop_sweep_finds_work_without_a_signal(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox, sweep="1s"))
    daemon = daemons(database.dsn, inbox.url)
    daemon.wait_for("sweep.finished", dispatch=False, route="dispatch")
    with database.connect() as connection, connection.transaction():
        connection.execute("select pgreact.mute()")
        connection.execute("insert into job_queue values (1)")
    daemon.wait_for("sweep.finished", reason="backstop", dispatch=True)
    inbox.take()


def test_a_ready_query_that_fails_dispatches_and_is_reported_once(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox, sweep="1s"))
    database.run("update pgreact.route set ready = 'select 1 / 0' where name = 'dispatch'")
    daemon = daemons(database.dsn, inbox.url)
    daemon.wait_for("sweep.finished", count=2, dispatch=True)
    assert [event["error"] for event in daemon.seen("sweep.failed")] == ["division by zero"]
    assert not daemon.seen("leader.lost")


def test_a_ready_query_cannot_write(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    database.run(
        "update pgreact.route set ready = 'with x as (delete from job_queue returning 1) select true'"
    )
    daemon = daemons(database.dsn, inbox.url)
    assert "read-only" in daemon.wait_for("sweep.failed")["error"]


def test_foreign_notifications_are_rejected_in_few_lines(
    leader: Daemon, database: Database, inbox: Inbox
) -> None:
    with database.connect() as connection:
        for payload in ("", "evil", "-1", "99999", "1; drop table job_queue", "٣", "9" * 4000, "\x01"):
            connection.execute("select pg_notify('pgreact', %s)", (payload,))
        for _ in range(500):
            connection.execute("notify pgreact, 'flood'")
    database.run("insert into job_queue values (1)")
    inbox.take()
    assert leader.stop() == 0
    assert len(leader.seen("notification.rejected")) == 1
    assert not inbox.rest()


def test_the_first_connection_fails_fast(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    daemon = daemons(f"postgresql://postgres@127.0.0.1:{servers.free_port()}/x", inbox.url)
    assert daemon.exit() == 1
    assert "cannot connect" in daemon.seen("daemon.stopped")[0]["reason"]


def test_without_schema_the_daemon_names_apply(database: Database, inbox: Inbox, daemons: Start) -> None:
    daemon = daemons(database.dsn, inbox.url)
    assert daemon.exit() == 1
    assert 'run "pgreact apply"' in daemon.seen("daemon.stopped")[0]["reason"]
    assert not any("Traceback" in event["text"] for event in daemon.seen("(text)"))


def test_behind_a_pooler_in_transaction_mode_the_daemon_names_listen_dsn(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    servers.require_or_skip("pgbouncer")
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    with servers.pgbouncer(database.dsn) as pooler:
        refused = daemons(pooler.url, inbox.url)
        assert refused.exit() == 1
        assert "listen_dsn" in refused.seen("daemon.stopped")[0]["reason"]

        daemon = daemons(pooler.url, inbox.url, environ={"PGREACT_LISTEN_DSN": database.dsn})
        daemon.wait_for("sweep.finished", route="dispatch")
        with psycopg.connect(pooler.url, autocommit=True) as writer:
            writer.execute("insert into job_queue values (1)", prepare=False)
        inbox.take()


def test_a_replica_is_refused_at_start_and_waited_out_later(
    own_postgres: EmbeddedPostgres, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database = Database(own_postgres.dsn())
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    running = daemons(database.dsn, inbox.url)
    running.wait_for("sweep.finished")

    own_postgres.stop()
    (own_postgres.directory / "data" / "standby.signal").touch()
    own_postgres.start()
    refused = daemons(database.dsn, inbox.url)
    assert refused.exit() == 1
    assert "replica" in refused.seen("daemon.stopped")[0]["reason"]
    write('[routes.more]\ntask = "t"\n')
    tried = pgreact("apply", "--dry-run", dsn=database.dsn)
    assert (tried.code, tried.out.splitlines()[-1]) == (0, "+ route more: calls t")
    assert tried.err == "not tried: this database is a replica, which is read-only\n"
    assert running.wait_for("listener.lost")

    database.run("select pg_promote()")
    database.until("select not pg_is_in_recovery()")
    running.wait_for("leader.elected", count=2)
    database.run("insert into job_queue values (1)")
    inbox.take()


def test_systemd_is_notified_of_readiness_and_of_the_end(
    database: Database, inbox: Inbox, installed: Install, daemons: Start, tmp_path: Path
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        heard: list[str] = []

        def hear(word: str) -> None:
            while not any(word in message for message in heard):
                heard.append(manager.recv(4096).decode())

        daemon = daemons(database.dsn, inbox.url, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        hear("READY=1\nSTATUS=leader")
        hear("WATCHDOG=1")
        assert daemon.stop() == 0
        hear("STOPPING=1")


def test_sigint_stops_the_daemon_as_sigterm_does(leader: Daemon) -> None:
    leader.process.send_signal(2)
    assert leader.exit() == 0
    assert leader.seen("leader.resigned")
    assert leader.seen("daemon.stopped", reason="SIGINT")


def test_rabbitmq_gets_the_call_and_confirms_it(
    database: Database, installed: Install, daemons: Start
) -> None:
    servers.require_or_skip("rabbitmq")
    with servers.rabbitmq_server() as broker:
        inbox = Inbox(broker.url, "dispatch")
        database.run("create table job_queue (id int)")
        installed(database, one_route(inbox))
        daemon = daemons(database.dsn, broker.url)
        daemon.wait_for("sweep.finished", route="dispatch")
        database.run("insert into job_queue values (1)")
        assert inbox.take()["task"] == "proj.dispatch"
        daemon.wait_for("dispatch.published")

        broker.stop()
        database.run("insert into job_queue values (2)")
        daemon.wait_for("dispatch.failed")
        database.run("insert into job_queue values (3)")
        broker.start()
        published = daemon.wait_for("dispatch.published", count=2, deadline=60)
        assert published["signals"] == 2
        assert daemon.stop() == 0
        inbox.close()
