"""The load of the soak: threads enqueue, change tables and roll back, and record their commits."""

import dataclasses
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import psycopg

from benchmarks import soak_names as names
from benchmarks.soak_cluster import Cluster
from tests.hostile import HOSTILE

ENQUEUERS = 3
ENQUEUE_PAUSE = 0.06  # mean seconds between two transactions of one enqueuer
CALM_PAUSE = 0.1  # seconds between two jobs of the calm lane
ROLLED_BACK = 0.1  # share of all transactions
MOST_ATTEMPTS = 100_000  # no limit of attempts may lose a job
WRITER_WAIT = "5s"  # lock_timeout of the application's writers
KEYS = 4  # of each enqueuer, which alone uses them and so knows their order
UNIQUE_KEYS = 5  # shared by all enqueuers and faults
ORDERS = 12
# Seconds from a commit without a dispatch that prove its wake-up lost, while no session and no server ends:
# the sweep of an election would hide the loss.
WAKE_DEADLINE = 10.0
LOOK = 0.02  # seconds between two checks for a dispatch

_ENQUEUE = (
    "select pgreact.enqueue(%(task)s, %(args)s, lane => %(lane)s, key => %(key)s, "
    "unique_key => %(unique_key)s, unique_while => %(unique_while)s, run_at => %(run_at)s, "
    "priority => %(priority)s, backoff => '0.1 s', "
    f"max_attempts => {MOST_ATTEMPTS}, max_lost => {MOST_ATTEMPTS}, options => %(options)s)"
)


@dataclasses.dataclass(frozen=True)
class Wake:
    """A commit and its dispatch."""

    route: str
    committed: float
    published: float | None  # None: no dispatch followed


class Sent(NamedTuple):
    """An enqueued job."""

    number: int
    job: int


class Numbers:
    """A thread-safe counter of job numbers."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the next number."""
        with self._lock:
            return next(self._next)


class Load:
    """Threads that use pgreact until `stop`."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        """Take the parts; start nothing.

        Args:
            cluster: The target of the load.
            seed: Seed of the random choices.
        """
        self._cluster = cluster
        self._seed = seed
        self.number = Numbers()
        self.over = threading.Event()
        self.troubled = threading.Event()  # set while sessions and servers end: delays prove nothing then
        self.failures: list[BaseException] = []
        self.refused = 0  # transactions that failed
        self.wakes: list[Wake] = []
        self.calm: dict[int, float] = {}  # time before the enqueue of each job of the calm lane
        bodies: list[Callable[[random.Random], None]] = [
            *(lambda rng, own=own: self._enqueue(rng, own) for own in range(ENQUEUERS)),
            self._order,
            self._order,
            self._stay_calm,
            *(lambda rng, route=route: self._wake(rng, route) for route in names.ROUTES),
        ]
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(body, random.Random(f"{seed} {n}")), name=f"load {n}"
            )
            for n, body in enumerate(bodies)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the threads, each after its transaction."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def enqueue(
        self,
        connection: "psycopg.Connection[tuple[Any, ...]]",
        kind: str,
        *,
        task: str = "soak.work",
        seconds: float = 0.0,
        queue: str = names.BUSY,
        **more: Any,
    ) -> Sent:
        """Enqueue a job, and record it in the same transaction.

        Args:
            connection: A session in a transaction.
            kind: The kind of job, for the checks.
            task: The task's name; ``soak.work`` sleeps.
            seconds: The duration of ``soak.work``.
            queue: The Celery queue.
            **more: Arguments of ``pgreact.enqueue``.

        Returns:
            Its number, and the job's id, which is another one's where the unique key is taken.
        """
        number = self.number()
        arguments = [number, seconds] if task == "soak.work" else [number]
        values = {
            **dict.fromkeys(("key", "unique_key", "run_at")),
            "unique_while": "queued",
            "lane": "default",
            "priority": 0,
            **more,
            "task": task,
            "args": json.dumps(arguments),
            "options": json.dumps({"queue": queue}),
        }
        row = connection.execute(_ENQUEUE.encode(), values).fetchone()
        assert row is not None
        connection.execute(
            "insert into sent (number, job, kind, key, run_at) values (%s, %s, %s, %s, %s)",
            (number, row[0], kind, values["key"], values["run_at"]),
        )
        return Sent(number, int(row[0]))

    def _guarded(self, body: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self.over.is_set():
            try:
                body(rng)
            except psycopg.Error:
                self.refused += (
                    1  # the server is away, the disk is full, a lock is held: an application retries
                )
                self.over.wait(0.05)
            except BaseException as error:  # noqa: BLE001 - the bench itself is at fault, and must not go on
                self.failures.append(error)
                self.over.set()

    def _enqueue(self, rng: random.Random, own: int) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "plain": {},
            "slow": {"seconds": 0.1},
            "narrow": {"lane": names.NARROW, "seconds": 0.05},
            "rated": {"lane": names.RATED},
            "shaky": {"task": "soak.shaky"},
            "unknown": {"task": "soak.unknown"},  # no worker knows it
        }
        with self._cluster.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(rng.expovariate(1 / ENQUEUE_PAUSE)):
                for _ in range(rng.choice([1, 1, 1, 2, 5])):
                    kind = rng.choice([*kinds, "plain", "keyed", "keyed", "unique", "delayed"])
                    more = dict(kinds.get(kind, {}))
                    if kind == "unknown" and rng.random() < 0.8:  # each of them becomes a dead job
                        kind, more = "plain", {}
                    if kind == "keyed":
                        more = {"key": f"{own}-{rng.randrange(KEYS)}", "priority": rng.choice([0, 0, 5])}
                        if rng.random() < 0.3:
                            more["task"] = "soak.shaky"
                    elif kind == "unique":
                        more = unique(rng)
                    elif kind == "delayed":
                        row = connection.execute(
                            "select clock_timestamp() + make_interval(secs => %s)", (rng.uniform(0.2, 4),)
                        ).fetchone()
                        assert row is not None
                        more = {"run_at": row[0]}
                    self.enqueue(connection, kind, **more)
                    if kind == "unique":
                        break  # two in one transaction may deadlock with two of another
                if rng.random() < ROLLED_BACK:
                    connection.rollback()
                else:
                    connection.commit()

    def _order(self, rng: random.Random) -> None:
        """Change the rows of an outbox, in sessions with different output formats."""
        with self._cluster.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(rng.expovariate(1 / ENQUEUE_PAUSE)):
                for name in ("bytea_output", "IntervalStyle", "DateStyle", "extra_float_digits", "TimeZone"):
                    if rng.random() < 0.3:
                        connection.execute(
                            "select set_config(%s, %s, true)",
                            (name, rng.choice([settings[name] for settings in HOSTILE.values()])),
                        )
                n = rng.randrange(ORDERS)
                changed = connection.execute("update orders set version = version + 1 where n = %s", (n,))
                if changed.rowcount == 0:
                    connection.execute("insert into orders (n) values (%s) on conflict do nothing", (n,))
                if rng.random() < ROLLED_BACK:
                    connection.rollback()
                else:
                    connection.commit()

    def _stay_calm(self, _rng: random.Random) -> None:
        with self._cluster.connect(autocommit=False) as connection:
            while not self.over.wait(CALM_PAUSE):
                began = time.time()
                sent = self.enqueue(connection, "calm", lane=names.CALM, queue=names.CALM)
                connection.commit()
                self.calm[sent.number] = began

    def _wake(self, rng: random.Random, route: str) -> None:
        """Commit a few changes, and wait for a dispatch after the last one."""
        table = names.ROUTES[route]
        with self._cluster.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(rng.random() * 0.5):
                last = None
                for _ in range(rng.choice([1, 2, 50])):
                    row = connection.execute(
                        f"insert into {table} default values returning id".encode()
                    ).fetchone()
                    if rng.random() < ROLLED_BACK:
                        connection.rollback()
                    else:
                        connection.commit()
                        last = row
                if last is not None:
                    row = connection.execute(
                        f"select extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from {table} "
                        "where id = %s".encode(),
                        last,
                    ).fetchone()
                    connection.rollback()
                    assert row is not None
                    self._await(route, row[0])

    def _await(self, route: str, committed: float) -> None:
        log = self._cluster.log
        end = time.monotonic() + WAKE_DEADLINE
        while log.published.get(route, 0.0) < committed:
            if self.troubled.is_set():
                end = time.monotonic() + WAKE_DEADLINE
            if time.monotonic() > end:
                self.wakes.append(Wake(route, committed, None))
                return
            time.sleep(LOOK)
        self.wakes.append(Wake(route, committed, log.published[route]))


def unique(rng: random.Random) -> dict[str, Any]:
    """Return the arguments of a job with a contended unique key."""
    return {
        "unique_key": f"unique {rng.randrange(UNIQUE_KEYS)}",
        "unique_while": rng.choice(["queued", "queued", "in_progress"]),
        "task": rng.choice(["soak.work", "soak.shaky"]),
        "lane": "default",
    }
