"""Daemons under random writers, with a fault about every second: no signal is lost, no publishes overlap."""

import datetime
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.disruption.proxy import Proxy
from tests.harness import NEVER, Daemon, Database, Late, eventually

pytestmark = pytest.mark.alone

DURATION = float(os.environ.get("PGREACT_CHAOS_S", "45"))  # seconds
SESSION = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgreact {}%'"


class Writers:
    """Threads that commit and roll back single rows at random while a burst lasts."""

    def __init__(self, dsn: str, count: int) -> None:
        self._dsn = dsn
        self._bursting = threading.Event()
        self._over = threading.Event()
        self._idle = threading.Barrier(count + 1)
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(count)]
        for thread in self._threads:
            thread.start()

    def burst(self, seconds: float) -> None:
        """Write for a while; return when no writer has a transaction open."""
        self._bursting.set()
        self._over.wait(seconds)
        self._bursting.clear()
        self._idle.wait(30)

    def stop(self) -> None:
        """End the threads."""
        self._over.set()
        self._bursting.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._over.is_set():
            self._bursting.wait()
            while self._bursting.is_set() and not self._over.is_set():
                try:
                    with psycopg.connect(self._dsn, connect_timeout=2) as connection:
                        while self._bursting.is_set() and not self._over.is_set():
                            connection.execute("insert into job_queue default values")
                            self._over.wait(dice.random() * 0.02)
                            if dice.random() < 0.2:
                                connection.rollback()
                            else:
                                connection.commit()
                except psycopg.Error:
                    self._over.wait(0.02)  # the server is being restarted
            if not self._over.is_set():
                self._idle.wait(30)


class Cluster:
    """Everything that can break, and how to break it."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        broker: servers.Server,
        ways: list[Proxy],
        start: Callable[[int], Daemon],
    ) -> None:
        self.postgres = postgres
        self.broker = broker
        self.ways = ways
        self._start = start
        self.all: list[Daemon] = []
        self.now = [self._begin(index) for index in range(len(ways))]

    def _begin(self, index: int) -> Daemon:
        daemon = self._start(index)
        self.all.append(daemon)
        return daemon

    def kill_the_leader(self) -> None:
        """``kill -9``, and start another in its place."""
        for index, daemon in enumerate(self.now):
            latest = [
                event["event"]
                for event in daemon.events
                if event["event"].startswith(("leader.", "standby."))
            ]
            if latest[-1:] == ["leader.elected"]:
                daemon.kill()
                self.now[index] = self._begin(index)
                return

    def faults(self, dice: random.Random) -> Iterator[Callable[[], None]]:
        """Each kind of fault once, in random order."""
        way = dice.choice(self.ways)
        kinds: list[Callable[[], None]] = [
            self.kill_the_leader,
            self.kill_the_leader,
            *(lambda role=role: self._terminate(role) for role in ("leader", "listener", "work", "standby")),
            lambda: self.postgres.restart("fast"),
            lambda: self.postgres.restart("immediate"),
            self._restart_broker,
            lambda: self._disturb(way, "stall"),
            lambda: self._disturb(way, "swallow"),
            way.reset,
        ]
        dice.shuffle(kinds)
        yield from kinds

    def _terminate(self, role: str) -> None:
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as admin:
            admin.execute(SESSION.format(role).encode())

    def _restart_broker(self) -> None:
        self.broker.stop()
        self.broker.start()

    def _disturb(self, way: Proxy, mode: Any) -> None:
        way.set(mode)
        time.sleep(0.5)  # how long the network is away
        way.set("pass")
        if mode == "swallow":
            way.reset()  # a stream with a hole in it is over

    def publishes(self) -> list[tuple[float, float, int]]:
        """Return begin, end and daemon of every publish that was confirmed."""
        found = []
        for daemon in self.all:
            for event in daemon.seen("dispatch.published"):
                end = datetime.datetime.fromisoformat(event["timestamp"]).timestamp()
                found.append((end - event["publish_ms"] / 1000, end, daemon.pid))
        return sorted(found)


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, installed: Callable[..., None], daemons: Callable[..., Daemon]
) -> Iterator[Cluster]:
    """PostgreSQL, RabbitMQ and some daemons, each with its own way to PostgreSQL."""
    servers.require_or_skip("rabbitmq")
    binaries = servers.postgres_binaries()
    with (
        EmbeddedPostgres(bindir=binaries, settings={"track_commit_timestamp": "on"}) as postgres,
        servers.rabbitmq_server() as broker,
    ):
        database = Database(postgres.dsn())
        database.run("create table job_queue (id bigint generated always as identity)")
        tables = [{"table": "job_queue", "on": ["insert"]}]
        # no backstop: only wake-ups, elections and reconnections can lead to a dispatch
        installed(
            database,
            {"routes": {"dispatch": {"task": "t", "sweep": NEVER, "window": "20ms", "tables": tables}}},
        )
        ways = [Proxy(postgres.port) for _ in range(request.param)]

        def start(index: int) -> Daemon:
            dsn = postgres.dsn().replace(f":{postgres.port}/", f":{ways[index].port}/")
            for _ in range(100):  # PostgreSQL may just be away, and a first connection fails fast
                daemon = daemons(dsn, broker.url, level="info")
                try:
                    return daemon.ready()
                except Late:
                    continue
            raise Late("no daemon starts")

        for way in ways:
            way.__enter__()
        try:
            yield Cluster(postgres, broker, ways, start)
        finally:
            for way in ways:
                way.__exit__(None, None, None)


@pytest.mark.parametrize("cluster", [2, 3], indirect=True)
def test_no_signal_is_lost_and_no_two_daemons_publish_at_once(
    cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(20261120)
    database = Database(cluster.postgres.dsn())
    writers = Writers(cluster.postgres.dsn(), 4)
    faults: Iterator[Callable[[], None]] = itertools.chain.from_iterable(
        cluster.faults(dice) for _ in itertools.count()
    )
    end = time.monotonic() + DURATION
    rounds = 0
    try:
        while time.monotonic() < end:
            fault = threading.Timer(dice.random() * 0.6, next(faults))
            fault.start()
            writers.burst(0.7)
            fault.join()
            # Now it is quiet and whole again. The last commit has none after it to hide behind.
            last = database.value(
                "select extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from job_queue"
            )
            eventually(
                lambda last=last: any(begin >= last for begin, _, _ in cluster.publishes()[-1:]),
                f"a publish after the commit at {last}, round {rounds}",
                deadline=25,
            )
            rounds += 1
    finally:
        writers.stop()

    publishes = cluster.publishes()
    overlaps = [
        (earlier, later)
        for earlier, later in itertools.pairwise(publishes)
        if later[0] < earlier[1] and later[2] != earlier[2]
    ]
    rows = database.value("select count(*) from job_queue")
    leaders = sum(len(daemon.seen("leader.elected")) for daemon in cluster.all)
    summary = {"rounds": rounds, "commits": rows, "dispatches": len(publishes), "elections": leaders}
    for key, value in summary.items():
        record_property(key, value)
    assert not overlaps
    assert rounds > 10
    assert leaders > 5
    for daemon in cluster.now:
        assert daemon.process.poll() is None
