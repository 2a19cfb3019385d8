"""The gate under load: bursts and silences, long transactions, killed leaders."""

import bisect
import datetime
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import IsolationLevel

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.harness import NEVER, Daemon, Database, eventually

pytestmark = pytest.mark.alone

DURATION = float(os.environ.get("PGREACT_CHAOS_S", "60"))  # seconds
WRITERS = 40
WINDOW = 0.02
LATEST = 1.0  # seconds beyond the window
LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)


class Load:
    """Writers that burst together and are silent together, otherwise at random."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._bursting = threading.Event()
        self._over = threading.Event()
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def burst(self, seconds: float, silence: float) -> None:
        """Write for a while, then begin nothing for a while; long transactions go on meanwhile."""
        self._bursting.set()
        self._over.wait(seconds)
        self._bursting.clear()
        self._over.wait(silence)

    def stop(self) -> None:
        """End the threads."""
        self._over.set()
        self._bursting.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int) -> None:
        dice = random.Random(seed)
        with psycopg.connect(self._dsn) as connection:
            connection.isolation_level = LEVELS[seed % len(LEVELS)]
            while not self._over.is_set():
                self._bursting.wait()
                try:
                    self._transaction(connection, dice)
                except psycopg.Error as error:
                    self.failures.append(error)
                    return

    def _transaction(self, connection: "psycopg.Connection[tuple[object, ...]]", dice: random.Random) -> None:
        connection.execute("insert into job_queue default values")
        if dice.random() < 0.2:
            connection.execute("savepoint s")
            connection.execute("insert into job_queue default values")
            connection.execute("rollback to savepoint s")
        # mostly short; now and then long enough to outlive the burst and the closed gate
        self._over.wait(dice.random() * (3.0 if dice.random() < 0.01 else 0.02))
        if dice.random() < 0.2:
            connection.rollback()
        else:
            connection.commit()


@pytest.fixture
def watched(installed: Callable[..., None]) -> Iterator[Database]:
    """A server that records when each transaction was committed, and a route whose sweeps find nothing."""
    binaries = servers.postgres_binaries()
    with EmbeddedPostgres(bindir=binaries, settings={"track_commit_timestamp": "on"}) as postgres:
        database = Database(postgres.dsn())
        database.run("create table job_queue (id bigint generated always as identity)")
        installed(
            database,
            {
                "routes": {
                    "dispatch": {
                        "task": "t",
                        "sweep": NEVER,
                        "window": WINDOW,
                        "gate_close_rate": 20,
                        "gate_open_after": 0.3,
                        "tables": [{"table": "job_queue", "on": ["insert"]}],
                    }
                }
            },
        )
        yield database


def test_every_commit_is_dispatched_soon_whatever_the_gate_does(
    watched: Database,
    redis_url: str,
    daemons: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
) -> None:
    dice = random.Random(3)
    every = [daemons(watched.dsn, redis_url, level="info").ready() for _ in range(2)]
    load = Load(watched.dsn)
    end = time.monotonic() + DURATION
    kills = 0
    try:
        for round_ in itertools.count():
            if time.monotonic() > end:
                break
            if round_ % 5 == 2 and kills < 5:  # while it is closed, or while it opens
                killer = threading.Timer(dice.random(), _kill_the_leader, (every,))
                killer.start()
                load.burst(0.6, 0.9)
                killer.join()
                kills += 1
                every.append(daemons(watched.dsn, redis_url, level="info").ready())
            else:
                load.burst(0.2 + dice.random() / 4, 0.8 + dice.random() / 2)
    finally:
        load.stop()
    assert not load.failures

    commits = _commits(watched)
    eventually(lambda: _begins(every)[-1:] > commits[-1:], "a dispatch after the last commit")
    begins = _begins(every)
    late = [(at, _wait(at, begins)) for at in commits]
    worst = max(wait for _, wait in late)
    counts = {name: sum(len(d.seen(name)) for d in every) for name in ("gate.closed", "gate.opened")}
    for key, value in {**counts, "commits": len(commits), "worst_s": round(worst, 3), "kills": kills}.items():
        record_property(key, value)
    assert kills == 5
    assert min(counts.values()) >= 10
    assert worst < WINDOW + LATEST, sorted(late, key=lambda each: -each[1])[:5]


def _kill_the_leader(every: list[Daemon]) -> None:
    alive = [daemon for daemon in every if daemon.process.poll() is None]
    leaders = [daemon for daemon in alive if daemon.seen("leader.elected")]
    leaders[-1].kill()


def _commits(database: Database) -> list[float]:
    with database.connect() as connection:
        rows = connection.execute(
            "select distinct extract(epoch from pg_xact_commit_timestamp(xmin))::float8 "
            "from job_queue order by 1"
        ).fetchall()
    return [at for (at,) in rows]


def _begins(every: list[Daemon]) -> list[float]:
    return sorted(
        datetime.datetime.fromisoformat(event["timestamp"]).timestamp() - event["publish_ms"] / 1000
        for daemon in every
        for event in daemon.seen("dispatch.published")
    )


def _wait(commit: float, begins: list[float]) -> float:
    later = bisect.bisect_left(begins, commit)
    return begins[later] - commit if later < len(begins) else float("inf")
