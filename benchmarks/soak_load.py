"""What an application does: it enqueues, changes tables, rolls back; and notes what it committed."""

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
from benchmarks.soak_plant import Plant
from tests.hostile import HOSTILE

ENQUEUERS = 3
ENQUEUE_PAUSE = 0.06  # seconds between two transactions of one enqueuer, on average
CALM_PAUSE = 0.1  # seconds between two jobs of the lane that no fault is about
ROLLED_BACK = 0.1  # of all transactions
MOST_ATTEMPTS = 100_000  # a job is to be lost by nobody's limit
WRITER_WAIT = "5s"  # how long a writer of the application waits for a lock before it tries again later
KEYS = 4  # of each enqueuer: alone with them, it knows their order
UNIQUE_KEYS = 5  # of all enqueuers and faults together
ORDERS = 12
# Seconds without a dispatch after a commit, while no session and no server ends, that prove its wake-up lost.
# An election sweeps, and would hide it.
WAKE_PATIENCE = 10.0
LOOK = 0.02  # seconds between two looks for a dispatch

_ENQUEUE = (
    "select pgreact.enqueue(%(task)s, %(args)s, lane => %(lane)s, key => %(key)s, "
    "unique_key => %(unique_key)s, unique_while => %(unique_while)s, run_at => %(run_at)s, "
    "priority => %(priority)s, backoff => '0.1 s', "
    f"max_attempts => {MOST_ATTEMPTS}, max_lost => {MOST_ATTEMPTS}, options => %(options)s)"
)


@dataclasses.dataclass(frozen=True)
class Wake:
    """A commit that ought to lead to a dispatch, and when it did."""

    route: str
    committed: float
    published: float | None  # none: never


class Sent(NamedTuple):
    """A job that was enqueued."""

    number: int
    job: int


class Numbers:
    """Numbers for jobs, each given once."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the next."""
        with self._lock:
            return next(self._next)


class Load:
    """Threads that use pgreact until told to stop."""

    def __init__(self, plant: Plant, seed: int) -> None:
        """Nothing runs yet.

        Args:
            plant: What they use.
            seed: Of all chance.
        """
        self._plant = plant
        self._seed = seed
        self.number = Numbers()
        self.over = threading.Event()
        self.troubled = (
            threading.Event()
        )  # sessions and servers are being ended: what is late now proves nothing
        self.failures: list[BaseException] = []
        self.refused = 0  # transactions that failed
        self.wakes: list[Wake] = []
        self.calm: dict[int, float] = {}  # when each job of the calm lane was about to be enqueued
        bodies: list[Callable[[random.Random], None]] = [
            *(lambda dice, own=own: self._enqueue(dice, own) for own in range(ENQUEUERS)),
            self._order,
            self._order,
            self._stay_calm,
            *(lambda dice, route=route: self._wake(dice, route) for route in names.ROUTES),
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
        """Enqueue a job, and note in the same transaction that it was.

        Args:
            connection: In a transaction.
            kind: What it is to show.
            task: Its task; ``soak.work`` takes some time.
            seconds: How long.
            queue: Of Celery.
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

    def _guarded(self, body: Callable[[random.Random], None], dice: random.Random) -> None:
        while not self.over.is_set():
            try:
                body(dice)
            except psycopg.Error:
                self.refused += (
                    1  # the server is away, the disk is full, a lock is held: an application retries
                )
                self.over.wait(0.05)
            except BaseException as error:  # noqa: BLE001 - the bench itself is at fault, and must not go on
                self.failures.append(error)
                self.over.set()

    def _enqueue(self, dice: random.Random, own: int) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "plain": {},
            "slow": {"seconds": 0.1},
            "narrow": {"lane": names.NARROW, "seconds": 0.05},
            "rated": {"lane": names.RATED},
            "shaky": {"task": "soak.shaky"},
            "unknown": {"task": "soak.unknown"},  # to no worker
        }
        with self._plant.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(dice.expovariate(1 / ENQUEUE_PAUSE)):
                for _ in range(dice.choice([1, 1, 1, 2, 5])):
                    kind = dice.choice([*kinds, "plain", "keyed", "keyed", "unique", "delayed"])
                    more = dict(kinds.get(kind, {}))
                    if kind == "unknown" and dice.random() < 0.8:  # each of them is dead in the end
                        kind, more = "plain", {}
                    if kind == "keyed":
                        more = {"key": f"{own}-{dice.randrange(KEYS)}", "priority": dice.choice([0, 0, 5])}
                        if dice.random() < 0.3:
                            more["task"] = "soak.shaky"
                    elif kind == "unique":
                        more = unique(dice)
                    elif kind == "delayed":
                        row = connection.execute(
                            "select clock_timestamp() + make_interval(secs => %s)", (dice.uniform(0.2, 4),)
                        ).fetchone()
                        assert row is not None
                        more = {"run_at": row[0]}
                    self.enqueue(connection, kind, **more)
                    if kind == "unique":
                        break  # two of them in one transaction may deadlock with two of another
                if dice.random() < ROLLED_BACK:
                    connection.rollback()
                else:
                    connection.commit()

    def _order(self, dice: random.Random) -> None:
        """Change the rows of an outbox, in sessions that show values in all ways there are."""
        with self._plant.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(dice.expovariate(1 / ENQUEUE_PAUSE)):
                for name in ("bytea_output", "IntervalStyle", "DateStyle", "extra_float_digits", "TimeZone"):
                    if dice.random() < 0.3:
                        connection.execute(
                            "select set_config(%s, %s, true)",
                            (name, dice.choice([settings[name] for settings in HOSTILE.values()])),
                        )
                n = dice.randrange(ORDERS)
                changed = connection.execute("update orders set version = version + 1 where n = %s", (n,))
                if changed.rowcount == 0:
                    connection.execute("insert into orders (n) values (%s) on conflict do nothing", (n,))
                if dice.random() < ROLLED_BACK:
                    connection.rollback()
                else:
                    connection.commit()

    def _stay_calm(self, _dice: random.Random) -> None:
        with self._plant.connect(autocommit=False) as connection:
            while not self.over.wait(CALM_PAUSE):
                began = time.time()
                sent = self.enqueue(connection, "calm", lane=names.CALM, queue=names.CALM)
                connection.commit()
                self.calm[sent.number] = began

    def _wake(self, dice: random.Random, route: str) -> None:
        """Commit a few changes, and wait until a dispatch follows the last of them."""
        table = names.ROUTES[route]
        with self._plant.connect(autocommit=False, lock_timeout=WRITER_WAIT) as connection:
            while not self.over.wait(dice.random() * 0.5):
                last = None
                for _ in range(dice.choice([1, 2, 50])):
                    row = connection.execute(
                        f"insert into {table} default values returning id".encode()
                    ).fetchone()
                    if dice.random() < ROLLED_BACK:
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
        diary = self._plant.diary
        end = time.monotonic() + WAKE_PATIENCE
        while diary.published.get(route, 0.0) < committed:
            if self.troubled.is_set():
                end = time.monotonic() + WAKE_PATIENCE
            if time.monotonic() > end:
                self.wakes.append(Wake(route, committed, None))
                return
            time.sleep(LOOK)
        self.wakes.append(Wake(route, committed, diary.published[route]))


def unique(dice: random.Random) -> dict[str, Any]:
    """Return arguments of a job with a unique key that others want, too."""
    return {
        "unique_key": f"unique {dice.randrange(UNIQUE_KEYS)}",
        "unique_while": dice.choice(["queued", "queued", "in_progress"]),
        "task": dice.choice(["soak.work", "soak.shaky"]),
        "lane": "default",
    }
