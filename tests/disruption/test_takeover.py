"""However the leader ends, another takes over and no signal is lost."""

import re
import signal
from collections.abc import Callable, Iterator

import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests.disruption.proxy import Proxy
from tests.harness import Daemon, Database, Inbox, one_route

Start = Callable[..., Daemon]
Install = Callable[..., None]

SESSION = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgreact {}%'"


@pytest.fixture
def queue(database: Database, inbox: Inbox, installed: Install) -> Database:
    """A database with a watched table."""
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    return database


@pytest.fixture
def pair(queue: Database, inbox: Inbox, daemons: Start) -> tuple[Daemon, Daemon]:
    """A leader with nothing to do, and a standby that waits."""
    leader = daemons(queue.dsn, inbox.url)
    leader.wait_for("sweep.finished", route="dispatch", dispatch=False)
    standby = daemons(queue.dsn, inbox.url)
    standby.wait_for("standby.waiting", leader=f"{leader.seen('daemon.started')[0]['host']} {leader.pid}")
    return leader, standby


def test_a_standby_is_silent(pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox) -> None:
    leader, standby = pair
    for number in range(3):
        queue.run(f"insert into job_queue values ({number})")
        inbox.take()
    assert standby.stop() == 0
    assert leader.stop() == 0
    assert not standby.seen("dispatch.published")
    assert not standby.seen("leader.elected")
    assert not inbox.rest()


def test_a_killed_leader_is_replaced_and_its_work_swept(
    pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox
) -> None:
    leader, standby = pair
    leader.process.send_signal(signal.SIGSTOP)  # so that it cannot dispatch what comes now
    queue.run("insert into job_queue values (1)")
    leader.kill()
    standby.wait_for("sweep.finished", reason="elected", dispatch=True)
    assert inbox.take()["id"] == standby.wait_for("dispatch.published")["task_id"]


def test_a_stopped_leader_hands_over_at_once(
    pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox
) -> None:
    leader, standby = pair
    assert leader.stop() == 0
    assert leader.seen("leader.resigned")
    standby.wait_for("leader.elected")
    queue.run("insert into job_queue values (1)")
    assert inbox.take()["id"] == standby.wait_for("dispatch.published")["task_id"]


@pytest.mark.parametrize("kind", ["listener", "leader", "work", "standby"])
def test_no_session_is_needed_for_ever(
    kind: str, pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox
) -> None:
    leader, standby = pair
    queue.run(SESSION.format(kind), "insert into job_queue values (1)")
    inbox.take()
    for daemon in (leader, standby):
        for lost in daemon.seen("listener.lost"):
            assert re.search("ended the session|terminating connection", lost["reason"])
            daemon.wait_for("listener.connected", count=2)
    queue.until("select count(*) = 1 from pg_stat_activity where application_name like 'pgreact leader%'")
    queue.until("select count(*) = 1 from pg_stat_activity where application_name like 'pgreact standby%'")
    inbox.rest()
    queue.run("insert into job_queue values (2)")
    inbox.take()


def test_a_commit_while_no_daemon_listens_is_found_by_the_next(
    pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox, daemons: Start
) -> None:
    for daemon in pair:
        assert daemon.stop() == 0
    queue.run("insert into job_queue values (1)")
    daemons(queue.dsn, inbox.url).wait_for("dispatch.published")
    inbox.take()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_postgresql_loses_nothing(
    mode: str, own_postgres: EmbeddedPostgres, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database = Database(own_postgres.dsn())
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    first = daemons(database.dsn, inbox.url).ready()
    second = daemons(database.dsn, inbox.url).ready()
    database.run("insert into job_queue values (1)")
    inbox.take()
    own_postgres.stop(mode)  # type: ignore[arg-type]
    for daemon in (first, second):
        daemon.wait_for("listener.lost")
    own_postgres.start()
    inbox.take()  # the sweep of the new leader
    for daemon in (first, second):
        daemon.wait_for("listener.connected", count=2)
        assert len(daemon.seen("listener.lost")) == 1
    database.run("insert into job_queue values (2)")
    inbox.take()


@pytest.fixture
def way(postgres: EmbeddedPostgres) -> Iterator[Proxy]:
    """A way to PostgreSQL that can be cut."""
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", ["stall", "swallow", "reset"])
def test_a_leader_cut_off_steps_down_and_comes_back(
    fault: str, queue: Database, inbox: Inbox, daemons: Start, way: Proxy, postgres: EmbeddedPostgres
) -> None:
    cut_dsn = queue.dsn.replace(f":{postgres.port}/", f":{way.port}/")
    leader = daemons(cut_dsn, inbox.url)
    leader.wait_for("sweep.finished", route="dispatch", dispatch=False)
    standby = daemons(queue.dsn, inbox.url).ready()
    if fault == "reset":
        way.reset()
    else:
        way.set(fault)  # type: ignore[arg-type]
    queue.run("insert into job_queue values (1)")
    leader.wait_for("leader.lost", deadline=30)
    way.set("pass")
    leader.wait_for("listener.connected", count=2, deadline=30)
    inbox.take()
    inbox.rest()
    queue.run("insert into job_queue values (2)")
    inbox.take()
    assert [daemon.process.poll() for daemon in (leader, standby)] == [None, None]


def test_a_frozen_leader_is_replaced_and_does_not_publish_when_it_thaws(
    pair: tuple[Daemon, Daemon], queue: Database, inbox: Inbox
) -> None:
    leader, standby = pair
    leader.process.send_signal(signal.SIGSTOP)
    queue.run("insert into job_queue values (1)")  # waits in the leader's socket
    standby.wait_for("leader.elected", deadline=50)
    inbox.take()
    leader.process.send_signal(signal.SIGCONT)
    leader.wait_for("leader.lost")
    leader.wait_for("standby.waiting")
    assert not leader.seen("dispatch.published")
    assert standby.stop() == 0
    leader.wait_for("leader.elected", count=2)


def test_a_second_signal_ends_the_daemon_at_once(pair: tuple[Daemon, Daemon]) -> None:
    leader, _ = pair
    leader.process.send_signal(signal.SIGSTOP)
    leader.process.send_signal(signal.SIGTERM)
    leader.process.send_signal(signal.SIGINT)
    leader.process.send_signal(signal.SIGCONT)
    assert leader.exit() in {0, 128 + signal.SIGTERM, 128 + signal.SIGINT}
