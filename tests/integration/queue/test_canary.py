"""The canary: one job that goes the whole way, its time, and where it is stuck."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgreact.queue import canary_status
from tests.command import pgreact, write
from tests.harness import Daemon, Database
from tests.jobs_cluster import Cluster, a_cluster
from tests.queue_steps import Queue
from tests.worker import ROOT


def send(queue: Queue) -> float | None:
    found: float | None = queue.value("select pgreact.send_canary()")
    return found


def read(queue: Database) -> dict[str, Any]:
    with queue.connect() as connection:
        found = canary_status.read(connection)
    assert found is not None
    return found


def pass_time(queue: Queue, seconds: int = 61) -> None:
    """Let the last canary be older."""
    queue.run(
        f"update pgreact.canary set sent_at = sent_at - interval '{seconds} s',"
        f" checked_at = checked_at - interval '{seconds} s'"
    )


@pytest.fixture
def canary(steps: Queue) -> Queue:
    """A queue in which a canary is due each minute, and none was sent."""
    steps.run(
        "update pgreact.queue_setting set canary = '1 min', canary_queue = null",
        "delete from pgreact.canary",
        "insert into pgreact.canary default values",
    )
    return steps


def test_no_canary_is_sent_by_default(steps: Queue) -> None:
    steps.run("update pgreact.queue_setting set canary = null")
    assert send(steps) is None
    assert steps.claimed() == []
    with steps.connect() as connection:
        assert canary_status.read(connection) is None


def test_canary_yields_the_time_from_its_enqueue_to_its_settlement(canary: Queue) -> None:
    assert send(canary) == 60
    assert 59 < (send(canary) or 0) < 60  # the next one is not due
    [job] = canary.claimed()
    canary.start(job)
    canary.settle(job)
    found = read(canary)
    assert (found["returned_at"] - found["sent_at"]).total_seconds() == pytest.approx(found["seconds"])
    assert (found["place"], found["failing"], found["failures"]) == (None, False, 0)
    line = canary_status.line(found, datetime.datetime.now(datetime.UTC))
    assert line.startswith("canary   ")
    assert line.endswith("from commit to settlement, 0s ago; every 1m")
    pass_time(canary)
    assert send(canary) == 60
    assert canary.claimed() == [job + 1]


def test_canary_that_does_not_come_back_is_told_with_its_place_and_not_piled_up(canary: Queue) -> None:
    send(canary)
    assert canary_status.reason(read(canary)) is None
    job = canary.value("select job from pgreact.canary")
    places = []
    for failures, step in enumerate(
        (
            "select 1",
            "update pgreact.lane set paused = true where name = 'pgreact.canary'",
            "update pgreact.lane set paused = false; select pgreact.claim(1); select pgreact.unpublished()",
            "select pgreact.claim(1)",
            "select pgreact.start(id, claim_id, 0, 'worker-1 7') from pgreact.in_progress",
            "select pgreact.settle(id, claim_id, 'rejected', 'as told') from pgreact.in_progress",
        ),
        start=1,
    ):
        for statement in step.split("; "):
            canary.run(statement)
        pass_time(canary)
        places.append(canary_status.reason(read(canary)))
        if failures < 6:
            assert send(canary) == 60
            assert canary.value("select job from pgreact.canary") == job
            assert read(canary)["failures"] == failures
    assert places[0] == "canary sent 61s ago has not come back: ready, not claimed"
    assert [str(place).partition(" has not come back: ")[2] for place in places[1:]] == [
        "its lane pgreact.canary is paused",
        "claimed, not published",
        "in broker, not started",
        "started on worker-1 7, not settled",
        "dead (rejected): as told",
    ]
    send(canary)  # another takes the place of the dead one
    assert canary.value("select job from pgreact.canary") != job
    assert canary.value("select count(*) from pgreact.dead") == 0
    canary.run("select pgreact.cancel(job) from pgreact.canary")
    pass_time(canary)
    assert str(canary_status.reason(read(canary))).endswith("ago has not come back: cancelled")


def test_canary_that_was_lost_once_comes_back_with_its_next_attempt(canary: Queue) -> None:
    send(canary)
    for outcome in ("lost", "done"):
        [job] = canary.claimed()
        canary.start(job)
        assert read(canary)["returned_at"] is None
        canary.settle(job, outcome)
    assert read(canary)["returned_at"] is not None


def test_paused_and_full_lanes_do_not_hold_up_the_canary_unless_it_goes_through_them(canary: Queue) -> None:
    canary.run("update pgreact.lane set paused = true where name = 'default'")
    send(canary)
    assert canary.lanes() == ["pgreact.canary"]
    canary.empty()
    canary.run(
        "update pgreact.queue_setting set canary_queue = 'mail'",
        "insert into pgreact.lane (name, paused) values ('mail', true)",
    )
    pass_time(canary)
    send(canary)
    assert canary.claimed() == []
    assert read(canary)["place"] == "its lane mail is paused"
    canary.run("update pgreact.lane set paused = false")
    [job] = canary.claim()["jobs"]
    assert (job["lane"], job["options"]) == ("mail", '{"queue": "mail"}')


def test_change_of_its_settings_cancels_a_stuck_canary_and_sends_another(canary: Queue) -> None:
    canary.run("update pgreact.queue_setting set canary_queue = 'nobody'")
    send(canary)
    [stuck] = canary.claimed()
    pass_time(canary)
    send(canary)
    assert (read(canary)["failing"], read(canary)["failures"]) == (True, 1)
    canary.run("update pgreact.queue_setting set canary_queue = null")
    assert send(canary) == 60
    assert (read(canary)["failing"], read(canary)["failures"]) == (False, 1)
    [job] = canary.claimed()
    assert job > stuck
    assert canary.value(f"select count(*) from pgreact.in_progress where id = {stuck}") == 0
    canary.run("update pgreact.queue_setting set canary = '2 min'")
    with canary.connect() as other, other.transaction():
        other.execute(f"select from pgreact.in_progress where id = {job} for update".encode())
        assert send(canary) == 1, "a transaction holds the job"
    canary.start(job)
    assert send(canary) == 120
    [last] = canary.claimed()
    canary.settle(job)  # it ran: it goes on, and is not waited for
    assert read(canary)["returned_at"] is None
    canary.run("update pgreact.queue_setting set canary = null")
    assert send(canary) is None
    assert canary.value("select count(*) from pgreact.in_progress") == 0
    canary.run("update pgreact.queue_setting set canary = '1 min'")
    assert (read(canary)["sent_at"], read(canary)["place"]) == (None, None)
    assert send(canary) == 60
    assert canary.claimed() > [last]


def test_clock_set_back_does_not_stop_the_canary(canary: Queue) -> None:
    send(canary)
    [job] = canary.claimed()
    canary.start(job)
    canary.settle(job)
    pass_time(canary, -3600)
    assert send(canary) == 60
    assert canary.claimed() == [job + 1]


@pytest.fixture(scope="module")
def cluster(postgres: Any, redis_url: str) -> Iterator[Cluster]:
    with a_cluster(postgres, redis_url, "solo") as running:
        yield running


def test_canary_goes_the_whole_way_across_a_failover_and_a_change_of_its_interval(
    cluster: Cluster, daemons: Callable[..., Daemon]
) -> None:
    database = cluster.database
    environ = {"PGREACT_APP": "tests.jobs_app", "TASK_QUEUE": cluster.queue, "PYTHONPATH": str(ROOT)}
    first = daemons(database.dsn, cluster.broker, environ=environ).ready()
    standby = daemons(database.dsn, cluster.broker, environ=environ).ready()
    back = "select returned_at is not null from pgreact.canary"
    database.run("update pgreact.queue_setting set canary = '1 day'")
    database.until(back)
    job = database.value("select job from pgreact.canary")
    database.run("update pgreact.queue_setting set canary = '1 s'")
    database.until(f"select returned_at is not null and job > {job} from pgreact.canary")
    first.kill()
    standby.wait_for("leader.elected")
    job = database.value("select job from pgreact.canary")
    database.until(f"select returned_at is not null and job > {job} from pgreact.canary")
    assert database.value("select failures from pgreact.canary") <= 1  # the one that died with its leader
    write("")
    status = pgreact("status", dsn=database.dsn).out
    assert "from commit to settlement" in status
    database.run("update pgreact.queue_setting set canary = null")


def test_monitor_reads_the_canary_and_the_daemon_sends_it(canary: Queue) -> None:
    for kind, statement in (
        ("monitor", "select * from pgreact.canary"),
        ("daemon", "select pgreact.send_canary()"),
    ):
        role = (
            f"canary_{kind}_{canary.value('select oid from pg_database where datname = current_database()')}"
        )
        canary.run(f"create role {role}", f"select pgreact.grant_role('{role}', '{kind}')")
        try:
            with canary.connect() as connection:
                connection.execute(f"set role {role}".encode())
                connection.execute(statement.encode())
        finally:
            canary.run(f"drop owned by {role}", f"drop role {role}")
