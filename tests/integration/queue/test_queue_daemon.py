"""Jobs on their way from a commit to Celery: the daemon claims and publishes."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kombu import Connection

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.command import pgreact
from tests.harness import Daemon, Database, Inbox, eventually

Install = Callable[..., None]
Start = Callable[..., Daemon]


class Plant:
    """A database with a queue, a daemon, and the broker's queue that its jobs go to."""

    def __init__(self, database: Database, inbox: Inbox) -> None:
        self.database = database
        self.inbox = inbox

    def add(
        self, task: str = "t", connection: "psycopg.Connection[Any] | None" = None, **arguments: str
    ) -> int:
        """Enqueue a job for the inbox, into lane default; arguments are SQL."""
        arguments.setdefault("lane", "'default'")
        options = json.dumps({"queue": self.inbox.queue})
        given = "".join(f", {name} => {value}" for name, value in arguments.items())
        statement = f"select pgreact.enqueue('{task}', options => '{options}'{given})"
        if connection is not None:
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            return int(row[0])
        return int(self.database.value(statement))

    def take(self) -> int:
        """Wait for a message; return the job it is of."""
        return int(self.inbox.take()["pgreact_job"])


@pytest.fixture
def plant(database: Database, inbox: Inbox, installed: Install) -> Plant:
    """A queue without a daemon."""
    installed(database)
    return Plant(database, inbox)


@pytest.fixture
def leader(plant: Plant, daemons: Start) -> Daemon:
    """A daemon that leads, and has swept."""
    daemon = daemons(plant.database.dsn, plant.inbox.url).ready()
    daemon.wait_for("sweep.finished", route="pgreact.queue")
    return daemon


def test_a_committed_job_becomes_a_message_of_its_task(plant: Plant, leader: Daemon) -> None:
    job = plant.add("proj.mail", args="'[1]'", kwargs="'{\"a\": 2}'")
    found = plant.inbox.take()
    assert (found["task"], int(found["pgreact_job"]), int(found["pgreact_attempt"])) == ("proj.mail", job, 1)
    assert found["id"] == plant.database.value(
        "select task_id::text from pgreact.in_progress where id = %s", job
    )
    assert (found["argsrepr"], found["kwargsrepr"]) == ("[1]", "{'a': 2}")
    assert leader.wait_for("queue.dispatched")["published"] == 1


def test_a_job_that_was_rolled_back_never_was(plant: Plant, leader: Daemon) -> None:
    with plant.database.connect(autocommit=False) as connection:
        plant.add(connection=connection)
        connection.rollback()
    job = plant.add()
    assert plant.take() == job
    assert plant.inbox.rest() == []


def test_jobs_enqueued_without_a_leader_are_found(plant: Plant, daemons: Start) -> None:
    jobs = [plant.add() for _ in range(3)]
    daemons(plant.database.dsn, plant.inbox.url)
    assert [plant.take() for _ in jobs] == jobs


def test_a_freed_place_is_filled_at_once(plant: Plant, leader: Daemon) -> None:
    plant.database.run("update pgreact.lane set max_in_progress = 1")
    first, second = plant.add(), plant.add()
    assert plant.take() == first
    plant.database.run("select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress")
    assert plant.take() == second


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("update pgreact.lane set paused = true", "update pgreact.lane set paused = false"),
        ("update pgreact.lane set max_in_progress = 0", "update pgreact.lane set max_in_progress = 1"),
        (
            "update pgreact.queue_setting set max_in_progress = 0",
            "update pgreact.queue_setting set max_in_progress = 1",
        ),
    ],
)
def test_a_change_of_a_limit_wakes_the_dispatch_by_itself(
    plant: Plant, leader: Daemon, before: str, after: str
) -> None:
    plant.database.run(before)
    job = plant.add()
    assert plant.inbox.rest() == []
    plant.database.run(after)
    assert plant.take() == job


def test_a_delayed_job_comes_at_its_time(plant: Plant, leader: Daemon) -> None:
    far = plant.add(run_at="clock_timestamp() + interval '1 h'")
    near = plant.add(run_at="clock_timestamp() + interval '400 ms'")
    assert plant.take() == near
    late = plant.database.value(
        "select extract(epoch from claimed_at - run_at)::float8 from pgreact.in_progress where id = %s", near
    )
    assert 0 <= late < 1  # benchmarks/ measures it; here it is only not early, and not by the next sweep
    assert plant.database.value("select state from pgreact.queue where id = %s", far) == "delayed"


def test_a_rate_is_kept_by_a_timer(plant: Plant, leader: Daemon) -> None:
    plant.database.run("update pgreact.lane set rate = 5")
    jobs = [plant.add() for _ in range(4)]
    assert [plant.take() for _ in jobs] == jobs
    took = plant.database.value(
        "select extract(epoch from max(claimed_at) - min(claimed_at))::float8 from pgreact.in_progress"
    )
    assert took >= 0.6


def test_more_than_a_batch_goes_out(plant: Plant, leader: Daemon) -> None:
    plant.database.run("update pgreact.lane set max_unstarted = 350")
    options = json.dumps({"queue": plant.inbox.queue})
    plant.database.run(
        f"select pgreact.enqueue('t', lane => 'default', options => '{options}') "
        "from generate_series(1, 350)",
    )
    assert {plant.take() for _ in range(350)} == set(range(1, 351))
    assert plant.inbox.rest() == []


def test_a_job_that_no_message_can_be_made_of_is_dead_and_the_others_go_on(
    plant: Plant, leader: Daemon
) -> None:
    wrong = plant.database.value(
        "insert into pgreact.queue (task, options) values ('t', '{\"queue\": [1]}') returning id"
    )
    right = plant.add()
    assert plant.take() == right
    assert leader.wait_for("job.refused")["job"] == wrong
    plant.database.until("select exists (select from pgreact.dead where outcome = 'invalid' and error <> '')")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (f"[{'9' * 5000}]", "args cannot be read: ValueError: Exceeds the limit"),
        ("[1e400, 1e5000]", "args cannot be read: ValueError: Exceeds the limit"),
        (f"[{'9' * 400}.5]", "args cannot be read: ValueError: 99999999999999999999... is beyond the range"),
        ("[" * 3000 + "]" * 3000, "args cannot be read: TooDeep: nested more than 200 levels deep"),
        ('[{"__type__": "datetime", "__value__": 5}]', "args cannot be read: TypeError"),
    ],
)
def test_a_job_that_cannot_be_read_is_dead_and_the_others_go_on(
    plant: Plant, leader: Daemon, args: str, error: str
) -> None:
    wrong = plant.database.value("select pgreact.enqueue('t', args => %s)", args)
    right = plant.add()
    assert plant.take() == right
    assert error in leader.wait_for("job.refused", job=wrong)["error"]
    plant.database.until(
        f"select exists (select from pgreact.dead where id = {wrong} and outcome = 'invalid')"
    )
    shown = pgreact("queue", "show", str(wrong), "--json", dsn=plant.database.dsn)
    assert json.loads(shown.out)["job"]["outcome"] == "invalid"
    assert leader.process.poll() is None


def test_a_text_that_is_not_utf8_stops_neither_the_claim_nor_the_commands(
    postgres: EmbeddedPostgres, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    admin, name = Database(postgres.dsn()), f"t_{uuid4().hex[:12]}"
    admin.run(f"create database {name} template template0 encoding sql_ascii locale 'C'")
    daemons_dsn = postgres.dsn(dbname=name)
    database = Database(psycopg.conninfo.make_conninfo(daemons_dsn, client_encoding="utf8"))
    installed(database)
    plant = Plant(database, inbox)
    with pytest.raises(psycopg.Error, match="job t: a text of it cannot be written in UTF-8"):
        plant.add(key="e'k\\xe4'")
    options = f'{{"queue": "{inbox.queue}"}}'
    wrong = database.value(
        "insert into pgreact.queue (task, key, args, options)"
        " values (e't\\xe4', e'k\\xe4', jsonb_build_array(e'\\xe4'), %s) returning id",
        options,
    )
    delayed = database.value(
        "insert into pgreact.queue (task, key, state, run_at) "
        "values ('t', e'd\\xe4', 'delayed', 'infinity') returning id"
    )
    right = plant.add(kwargs='\'{"name": "ä"}\'')
    leader = daemons(daemons_dsn, inbox.url).ready()
    assert plant.take() == right
    assert leader.wait_for("job.refused", job=wrong)["task"] == "t\\344"
    database.until(f"select exists (select from pgreact.dead where id = {wrong})")
    listed = pgreact("queue", "list", dsn=daemons_dsn).out
    assert "t\\344" in listed
    assert "d\\344" in listed
    assert "d\\344" in pgreact("queue", "show", str(delayed), dsn=daemons_dsn).out
    assert pgreact("queue", "show", str(wrong), dsn=daemons_dsn).code == 0
    assert pgreact("status", dsn=daemons_dsn).code == 0
    leader.kill()
    admin.run(f"drop database {name} with (force)")


def test_a_tasks_own_options_hold(plant: Plant, daemons: Start, tmp_path: Path) -> None:
    (tmp_path / "own_app.py").write_text(
        "from celery import Celery\n"
        "app = Celery('own', set_as_current=False)\n"
        f"@app.task(name='own', queue='{plant.inbox.queue}', priority=7, ignore_result=True)\n"
        "def own(): ...\n"
        f"@app.task(name='loud', queue='{plant.inbox.queue}')\n"
        "def loud(): ...\n"
    )
    daemons(plant.database.dsn, plant.inbox.url, environ={"PGREACT_APP": "own_app:app"}).ready()
    plant.database.run("select pgreact.enqueue('own')", "select pgreact.enqueue('loud')")
    found = {
        message["task"]: message["ignore_result"] for message in (plant.inbox.take(), plant.inbox.take())
    }
    assert found == {"own": True, "loud": False}


def test_a_leader_that_died_before_it_published_is_made_up_for_by_the_next(
    plant: Plant, daemons: Start
) -> None:
    job = plant.add()
    task_id = plant.database.value("select pgreact.claim(100)")["jobs"][0]["task_id"]  # and then it died
    daemons(plant.database.dsn, plant.inbox.url)
    found = plant.inbox.take()
    assert (int(found["pgreact_job"]), found["id"], int(found["pgreact_attempt"])) == (job, task_id, 1)


def test_a_message_that_the_broker_lost_is_published_again_after_the_lease(
    plant: Plant, leader: Daemon
) -> None:
    plant.database.run("update pgreact.queue_setting set lease = '1 s'")
    job = plant.add()
    first, second = plant.inbox.take(), plant.inbox.take()
    assert int(first["pgreact_job"]) == int(second["pgreact_job"]) == job
    assert first["id"] == second["id"]


def test_jobs_wait_for_a_broker_that_is_away(database: Database, installed: Install, daemons: Start) -> None:
    servers.require_or_skip("redis")
    installed(database)
    with servers.redis_server() as broker:
        inbox = Inbox(broker.url, "jobs")
        plant = Plant(database, inbox)
        leader = daemons(database.dsn, broker.url).ready()
        assert plant.add() == plant.take()
        broker.stop()
        jobs = [plant.add() for _ in range(3)]
        leader.wait_for("dispatch.failed", route="pgreact.queue")
        broker.start()
        again = Inbox(broker.url, "jobs")
        assert sorted({int(again.take()["pgreact_job"]) for _ in jobs}) == jobs
        assert database.value("select count(*) from pgreact.dead") == 0
        again.close()


def test_killed_leaders_lose_no_job_and_claim_none_twice(plant: Plant, daemons: Start) -> None:
    plant.database.run("update pgreact.lane set max_unstarted = 9999")
    alive = [daemons(plant.database.dsn, plant.inbox.url).ready() for _ in range(2)]
    total = 0
    for _ in range(4):
        plant.database.run(
            "select pgreact.enqueue('t', lane => 'default', options => "
            f"'{json.dumps({'queue': plant.inbox.queue})}') from generate_series(1, 300)"
        )
        total += 300
        leading = next(daemon for daemon in alive if daemon.seen("leader.elected"))
        leading.wait_for("queue.dispatched")
        leading.signal(signal.SIGKILL)
        leading.kill()
        alive.remove(leading)
        alive.append(daemons(plant.database.dsn, plant.inbox.url).ready())
        eventually(lambda: any(daemon.seen("leader.elected") for daemon in alive), "the other one leads")
    plant.database.until(
        f"select count(*) = {total} and bool_and(published_at is not null) from pgreact.in_progress"
    )
    heard: dict[int, set[str]] = {}
    for message in plant.inbox.rest():
        heard.setdefault(int(message["pgreact_job"]), set()).add(message["id"])
    assert set(heard) == set(range(1, total + 1))
    assert all(len(ids) == 1 for ids in heard.values()), (
        "a message may come twice, but it is the same attempt"
    )


@pytest.fixture
def rabbitmq_url() -> Iterator[str]:
    """A real RabbitMQ."""
    servers.require_or_skip("rabbitmq")
    with servers.rabbitmq_server() as server:
        yield server.url


def test_rabbitmq_refusing_one_message_holds_up_no_other(
    rabbitmq_url: str, database: Database, installed: Install, daemons: Start
) -> None:
    installed(database)
    leader = daemons(database.dsn, rabbitmq_url).ready()
    database.run('select pgreact.enqueue(\'t\', options => \'{"exchange": "nope", "routing_key": "x"}\')')
    good = database.value("select pgreact.enqueue('t', options => '{\"queue\": \"good\"}')")
    assert "nope" in leader.wait_for("job.refused")["error"]
    with Connection(rabbitmq_url) as connection:
        box = connection.SimpleQueue("good")
        message = box.get(timeout=20)
        assert int(message.headers["pgreact_job"]) == good
        message.ack()
        box.close()
