"""The whole queue under faults: each job is done once, no attempt starts twice, no limit is exceeded."""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg
import pytest
import redis

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.demo.queue_scene import most_at_once
from tests import servers
from tests.harness import Daemon, Database, Late
from tests.jobs_cluster import Cluster, prepare

pytestmark = pytest.mark.alone

DURATION = float(os.environ.get("PGREACT_CHAOS_S", "30"))  # seconds
LEASE = 3  # seconds
NARROW = 2  # places of its lane
TOTAL = 6


class Plant:
    """Daemons, workers, PostgreSQL, Redis: all that can break, and how to break it."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        broker: servers.Server,
        cluster: Cluster,
        start: Callable[[], Daemon],
    ) -> None:
        self.postgres = postgres
        self.broker = broker
        self.cluster = cluster
        self._start = start
        self.daemons = [start(), start()]

    def kill_the_leader(self) -> None:
        """``kill -9``, and start another in its place."""
        for index, daemon in enumerate(self.daemons):
            if daemon.seen("leader.elected"):
                daemon.kill()
                self.daemons[index] = self._start()
                return

    def kill_a_worker(self) -> None:
        """With all of its children, as a machine that loses its power; another one takes its place."""
        self.cluster.kill_worker()
        self.cluster.start()

    def kill_a_child(self) -> None:
        """As the kernel does when memory runs out."""
        worker = random.choice(self.cluster.workers)
        for child in psutil.Process(worker.process.pid).children()[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)

    def flush_the_broker(self) -> None:
        """All messages are lost."""
        with redis.Redis.from_url(self.broker.url) as client:
            client.flushall()

    def end_a_claim(self) -> None:
        """The leader loses the session that claims."""
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name like 'pgreact claims%'"
            )

    def restart_postgresql(self) -> None:
        """At once, whatever is under way."""
        self.postgres.restart("immediate")


@pytest.fixture
def plant(postgres: EmbeddedPostgres, database: Database, daemons: Callable[..., Daemon]) -> Iterator[Plant]:
    """Two daemons, two workers; the runs are told to a server that nobody restarts."""
    servers.require_or_skip("redis")
    with EmbeddedPostgres(bindir=servers.postgres_binaries()) as own, servers.redis_server() as broker:
        jobs = Database(own.dsn())
        prepare(jobs)
        jobs.run(
            f"update pgreact.queue_setting set lease = '{LEASE} s', max_in_progress = {TOTAL}",
            # its jobs are counted, and a bundle of them would take one place
            f"insert into pgreact.lane (name, max_in_progress, bundle) values ('narrow', {NARROW}, 1)",
            f"insert into pgreact.lane (name, max_in_progress) values ('tight', {NARROW})",
        )

        def start() -> Daemon:
            for _ in range(100):  # PostgreSQL may just be away, and a first connection fails fast
                daemon = daemons(own.dsn(), broker.url, level="info")
                try:
                    return daemon.ready()
                except Late:
                    continue
            raise Late("no daemon starts")

        cluster = Cluster(jobs, broker.url, "chaos", runs=database)
        try:
            cluster.start()
            cluster.start(TASK_LATE="1")
            yield Plant(own, broker, cluster, start)
        finally:
            cluster.stop()


class Producer(threading.Thread):
    """Enqueues jobs at random, and remembers those whose commit it knows of."""

    def __init__(self, dsn: str, quick: int = 0) -> None:
        """Prepare.

        Args:
            dsn: The database.
            quick: Jobs of a millisecond that each transaction enqueues beside its other one.
        """
        super().__init__()
        self._dsn = dsn
        self._quick = quick
        self.over = threading.Event()
        self.jobs: list[int] = []

    def run(self) -> None:
        """Go on until told to stop, whatever PostgreSQL does."""
        dice = random.Random(1)
        while not self.over.is_set():
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(self._dsn, connect_timeout=2) as connection,
            ):
                while not self.over.is_set():
                    lane = dice.choice(["default", "narrow"])
                    key = dice.choice([None, None, "a", "b"])
                    job: Any = connection.execute(
                        "select pgreact.enqueue('tests.jobs_app.plain', lane => %s, key => %s, "
                        "max_lost => 1000, backoff => '0', options => '{\"queue\": \"chaos\"}')",
                        (lane, key),
                    ).fetchone()
                    more: list[Any] = connection.execute(
                        "select pgreact.enqueue('tests.jobs_app.quick', max_lost => 1000, "
                        "lane => case when n %% 4 = 0 then 'tight' else 'default' end, "
                        'options => \'{"queue": "chaos"}\') from generate_series(1, %s) n',
                        (self._quick,),
                    ).fetchall()
                    if dice.random() < 0.1:
                        connection.rollback()
                    else:
                        connection.commit()
                        self.jobs += [job[0], *(row[0] for row in more)]
                    self.over.wait(0.05)


def test_each_job_is_done_once_and_no_limit_is_exceeded(
    plant: Plant, record_property: Callable[[str, object], None]
) -> None:
    done, rows = disrupt(plant, Producer(plant.postgres.dsn()), record_property)
    assert at_once(rows) <= TOTAL
    assert done > 8


def test_each_job_of_a_bundle_is_done_once(
    plant: Plant, record_property: Callable[[str, object], None]
) -> None:
    plant.cluster.database.run("update pgreact.queue_setting set max_in_progress = null")
    begun_together = places = 0

    def look() -> None:
        nonlocal begun_together, places
        with contextlib.suppress(psycopg.Error):
            # whatever a busy machine makes of them, and the faults
            plant.cluster.database.run(
                "update pgreact.task set run_s = 0.002 where name = 'tests.jobs_app.quick'"
            )
            found = plant.cluster.database.value(
                "select coalesce(max(n), 0) from (select count(*) as n from pgreact.in_progress "
                "where started_at is not null and task = 'tests.jobs_app.quick' "
                "group by worker, started_at) s"
            )
            begun_together = max(begun_together, found)
            found = plant.cluster.database.value(
                "select coalesce(max(places), 0) from pgreact.lane_depths() where lane = 'tight'"
            )
            places = max(places, found)

    done, _ = disrupt(plant, Producer(plant.postgres.dsn(), quick=20), record_property, look)
    assert begun_together > 1
    assert 0 < places <= NARROW
    assert done > 8


def disrupt(
    plant: Plant,
    producer: Producer,
    record_property: Callable[[str, object], None],
    look: Callable[[], None] = lambda: None,
) -> tuple[int, list[Any]]:
    """Break one part after the other under load; check what must hold whatever the load.

    Args:
        plant: What breaks.
        producer: The load.
        record_property: Takes the numbers.
        look: Called now and then.

    Returns:
        How many faults there were, and the settled attempts.
    """
    dice = random.Random(20261121)
    faults = [
        plant.kill_the_leader,
        plant.kill_a_worker,
        plant.kill_a_child,
        plant.flush_the_broker,
        plant.end_a_claim,
        plant.restart_postgresql,
    ]
    producer.start()
    end = time.monotonic() + DURATION
    done = 0
    try:
        while time.monotonic() < end:
            # what is under way meanwhile is what is tested
            pause = time.monotonic() + 0.5 + dice.random()
            while time.monotonic() < pause:
                producer.over.wait(0.1)
                look()
            if done % len(faults) == 0:
                dice.shuffle(faults)
            faults[done % len(faults)]()
            done += 1
    finally:
        producer.over.set()
        producer.join()
    jobs = plant.cluster.database
    # A message that was lost for the second time is sent after two leases.
    jobs.until(
        "select not exists (select from pgreact.queue) and not exists (select from pgreact.in_progress)",
        deadline=120,
    )
    with jobs.connect() as connection:
        rows = connection.execute(
            "select id, lane, key, outcome, claimed_at, settled_at from pgreact.history order by id, attempt"
        ).fetchall()
    for key, value in {"jobs": len(producer.jobs), "attempts": len(rows), "faults": done}.items():
        record_property(key, value)
    finished = [row[0] for row in rows if row[3] == "done"]
    assert set(producer.jobs) <= set(finished)
    assert len(finished) == len(set(finished))
    assert {row[3] for row in rows} <= {"done", "lost", "failed"}
    assert jobs.value("select count(*) from pgreact.dead") == 0
    assert plant.cluster.where_runs.value("select count(*) - count(distinct claim) from runs") == 0
    assert at_once([row for row in rows if row[1] == "narrow"]) <= NARROW
    for key in ("a", "b"):
        ours = [row for row in rows if row[2] == key]
        assert at_once(ours) == 1
        assert all(before[5] <= after[4] for before, after in itertools.pairwise(ours))
    return done, rows


def at_once(rows: list[Any]) -> int:
    """Return how many attempts were in progress at the same moment, at most."""
    return most_at_once((row[4], row[5]) for row in rows)
