"""The faults of the soak: processes and sessions that end, and transactions that stay open."""

import contextlib
import dataclasses
import functools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import psycopg

from benchmarks import soak_names as names
from benchmarks.soak_cluster import Cluster
from benchmarks.soak_load import Load, unique
from tests.hostile import HOSTILE, impose

AT_ONCE = 4  # faults under way at the same time
PAUSE = (0.2, 1.0)  # seconds between the beginnings of two faults
SHORT, LONG = (0.5, 3.0), (names.LEASE, names.HELD_LONGEST)  # seconds that a transaction stays open
DISK_FULL = (1.0, 3.0)  # seconds
FLOOD = 3.0  # seconds
FLOOD_RATE = 5000  # notifications a second, easily sent by one session without rights
CANCELS = 3.0  # seconds of cancelled statements
CANCEL_PAUSE = 0.05  # seconds between two
# A fault holds locks and does not wait for them: it gives up.
FAULT_WAIT = "2s"

_ROWS = {
    "queue": "select id from pgreact.queue where lane <> %s order by lane, run_at, id limit 20 {}",
    "in_progress": "select id from pgreact.in_progress where lane <> %s order by random() limit 3 {}",
    "lane": "select 0 from pgreact.lane where name <> %s {}",
    "lane_state": "select 0 from pgreact.lane_state where lane <> %s {}",
    "queue_setting": "select 0 from pgreact.queue_setting where %s::text is not null {}",
    "schedule": "select 0 from pgreact.schedule where %s::text is not null order by random() limit 3 {}",
    "dead": "select 0 from pgreact.dead where lane <> %s {}",
}
_STRENGTHS = ("for update", "for no key update", "for share", "for key share")
_READ = ("history", "schedule_history", "queue", "in_progress", "dead", "schedule", "lane", "queue_setting")
_PARTITION = """
select i.inhrelid::regclass::text
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'pgreact.history'::regclass and pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
    and pg_relation_size(c.oid) = 0
order by c.relname desc
limit 1
"""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault that was tried."""

    name: str
    began: float  # seconds since 1970
    ended: float
    refused: str  # why it could not be done, or empty


class Faults:
    """The random choice and execution of faults."""

    def __init__(self, cluster: Cluster, load: Load, rng: random.Random, left_out: set[str]) -> None:
        """Take the parts; start nothing.

        Args:
            cluster: The target of the faults.
            load: The running load.
            rng: Chooses the faults.
            left_out: Names of faults to leave out.
        """
        self._left_out = left_out
        self._servers = threading.Lock()  # at most one server is restarted or full at a time
        self._cluster = cluster
        self._load = load
        self._rng = rng
        self._deck: dict[bool, list[Callable[[], None]]] = {False: [], True: []}
        self._end = threading.Event()
        self.done: list[Fault] = []
        self.held: set[int] = set()  # jobs whose rows a fault has locked
        self.errors: list[BaseException] = []

    def during(self, seconds: float, *, ending: bool) -> None:
        """Execute faults for a while, and wait for the end of all of them.

        Args:
            seconds: Time during which new faults begin.
            ending: End processes, sessions, servers and messages, too; else only workers of the busy queue.
        """
        running: list[threading.Thread] = []
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._load.over.is_set():
            time.sleep(min(left, self._rng.uniform(*PAUSE)))
            running = [thread for thread in running if thread.is_alive()]
            if len(running) < AT_ONCE:
                thread = threading.Thread(target=self._do, args=(self._next(ending=ending),))
                thread.start()
                running.append(thread)
        for thread in running:
            thread.join()

    def impose_defaults(self) -> None:
        """Set hostile defaults on the database, for sessions that open from now on."""
        if "defaults" in self._left_out:
            return
        with self._cluster.connect() as connection:
            impose(connection, names.DATABASE, self._rng.choice(list(HOSTILE.values())))

    def tally(self) -> dict[str, tuple[int, int, str]]:
        """Return for each fault the number done, the number refused, and the last reason."""
        found: dict[str, tuple[int, int, str]] = {}
        for fault in sorted(self.done, key=lambda fault: fault.name):
            done, refused, why = found.get(fault.name, (0, 0, ""))
            if fault.refused:
                found[fault.name] = done, refused + 1, fault.refused.splitlines()[0]
            else:
                found[fault.name] = done + 1, refused, why
        return found

    def _next(self, *, ending: bool) -> Callable[[], None]:
        """Return the next fault: each kind once per cycle, in random order."""
        deck = self._deck[ending]
        if not deck:
            deck += (kind for kind in self._kinds(ending=ending) if _name(kind) not in self._left_out)
            self._rng.shuffle(deck)
        return deck.pop()

    def _kinds(self, *, ending: bool) -> Iterator[Callable[[], None]]:
        yield self.cancel_waiting
        yield self.cancel_first_of_a_lane
        yield self.cancel_in_progress
        yield self.cancel_in_progress
        yield from (functools.partial(self.lock_rows, table) for table in _ROWS)
        yield self.enqueue_without_a_commit
        yield self.enqueue_without_a_commit
        yield self.read_as_a_dump_does
        yield self.cancel_statements
        yield self.cancel_statements
        yield self.flood_with_notifications
        yield self.publish_all_tables
        yield self.kill_a_worker
        yield self.kill_a_child
        yield self.kill_a_child
        if ending:
            yield self.kill_a_daemon
            yield self.kill_a_daemon
            yield self.kill_beat
            yield self.kill_the_calm_worker
            yield self.terminate_sessions
            yield self.terminate_sessions
            yield self.restart_postgresql
            yield self.restart_broker
            yield self.flush_broker
            if self._cluster.filler is not None:
                yield self.fill_the_disk

    def _do(self, kind: Callable[[], None]) -> None:
        began, refused = time.time(), ""
        try:
            kind()
        except psycopg.Error as error:
            refused = str(error)
        except BaseException as error:  # noqa: BLE001 - the bench itself is at fault, and must not go on
            self.errors.append(error)
            self._load.over.set()
        self.done.append(Fault(_name(kind), began, time.time(), refused))

    # ---- open transactions --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(
        self, seconds: tuple[float, float] | None = None
    ) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        """Open a transaction that lasts for a while after the block, and then commits or rolls back."""
        span = self._rng.uniform(*(seconds or self._rng.choice([SHORT, SHORT, LONG])))
        commit = self._rng.random() < 0.5
        connection = self._cluster.connect(autocommit=False, lock_timeout=FAULT_WAIT)
        try:
            yield connection
            time.sleep(span)
            if commit:
                connection.commit()
        finally:
            connection.close()

    def _cancel(self, connection: "psycopg.Connection[tuple[object, ...]]", jobs: list[int]) -> None:
        self.held.update(jobs)
        for job in jobs:
            connection.execute(
                "insert into cancelled (job, answer) values (%s, pgreact.cancel(%s)) "
                "on conflict (job) do update set answer = excluded.answer where excluded.answer is not null",
                (job, job),
            )

    def _some(self, statement: str, *values: object) -> list[int]:
        found = [row[0] for row in self._cluster.rows(statement, *values)]
        self._rng.shuffle(found)
        return found

    def cancel_waiting(self) -> None:
        """Cancel some waiting jobs, without committing."""
        jobs = self._some(
            "select id from pgreact.queue where lane <> %s order by random() limit 5", names.CALM
        )
        with self._open() as connection:
            self._cancel(connection, jobs)

    def cancel_first_of_a_lane(self) -> None:
        """Cancel the first jobs of a lane, as many as it has places, without committing."""
        lane = names.HEADS
        with self._cluster.connect(autocommit=False, lock_timeout=FAULT_WAIT) as connection:
            connection.execute("update pgreact.lane set paused = true where name = %s", (lane,))
            connection.commit()
            for _ in range(2 * names.PLACES):
                self._load.enqueue(connection, "heads", lane=lane)
            connection.commit()
        jobs = self._cluster.rows(
            "select id from pgreact.queue where lane = %s order by priority desc, run_at, id limit %s",
            lane,
            names.PLACES,
        )
        try:
            with self._open() as connection:
                self._cancel(connection, [job for (job,) in jobs])
                self._cluster.rows("update pgreact.lane set paused = false where name = %s returning 1", lane)
        finally:
            self._unpause(lane)

    def _unpause(self, lane: str) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                self._cluster.rows("update pgreact.lane set paused = false where name = %s returning 1", lane)
                return
            time.sleep(PAUSE[0])

    def cancel_in_progress(self) -> None:
        """Cancel some jobs in progress, in random order, without committing."""
        jobs = self._some(
            "select id from pgreact.in_progress where lane <> %s order by published_at nulls first limit 5",
            names.CALM,
        )
        with self._open() as connection:
            self._cancel(connection, jobs)

    def lock_rows(self, table: str) -> None:
        """Lock rows of one of pgreact's tables."""
        with self._open() as connection:
            statement = _ROWS[table].format(self._rng.choice(_STRENGTHS))
            rows = connection.execute(statement.encode(), (names.CALM,)).fetchall()
            self.held.update(int(str(row[0])) for row in rows)

    def enqueue_without_a_commit(self) -> None:
        """Take a contended unique key, without committing."""
        with self._open() as connection:
            self._load.enqueue(connection, "unique", **unique(self._rng))

    def read_as_a_dump_does(self) -> None:
        """Lock all tables as pg_dump does, while the history needs a partition."""
        with self._cluster.connect(lock_timeout=FAULT_WAIT) as connection:
            row = connection.execute(_PARTITION.encode()).fetchone()
            if row is not None:  # empty, so of a day to come
                connection.execute(f"drop table {row[0]}".encode())
        with self._open(LONG) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            for table in _READ:
                connection.execute(f"lock table pgreact.{table} in access share mode".encode())

    def publish_all_tables(self) -> None:
        """Publish all tables, so that updates and deletes fail on a table without replica identity."""
        name = f"soak_{self._load.number()}"
        with self._cluster.connect(lock_timeout=FAULT_WAIT) as connection:
            connection.execute(f"create publication {name} for all tables".encode())
        try:
            time.sleep(self._rng.uniform(*SHORT))
        finally:
            self._until_done(f"drop publication if exists {name}")

    def _until_done(self, statement: str) -> None:
        while True:
            with contextlib.suppress(psycopg.Error), self._cluster.connect() as connection:
                connection.execute(statement.encode())
                return
            time.sleep(PAUSE[0])

    def cancel_statements(self) -> None:
        """Cancel the statements of pgreact's sessions, repeatedly."""
        end = time.monotonic() + CANCELS
        with self._cluster.connect() as connection:
            while time.monotonic() < end:
                connection.execute(
                    "select pg_cancel_backend(pid) from ("
                    "  select pid from pg_stat_activity where application_name like 'pgreact%'"
                    "  order by state = 'active' desc, random() limit 1) a"
                )
                time.sleep(CANCEL_PAUSE)

    def flood_with_notifications(self) -> None:
        """Send notifications on pgreact's channel, as a role without any right."""
        end = time.monotonic() + FLOOD
        sent = 0
        with self._cluster.connect() as connection:
            connection.execute(f"set session authorization {names.STRANGER}".encode())
            began = time.monotonic()
            while (now := time.monotonic()) < end:
                if sent > (now - began) * FLOOD_RATE:
                    time.sleep(0.01)
                    continue
                payload = self._rng.choice(
                    ["'routes'", "'schedule'", "'0'", "n::text", "'flight 1 x done'", "n || ' ?'"]
                )
                numbers = f"generate_series({sent}, {sent + 99}) n"
                connection.execute(f"select pg_notify('pgreact', {payload}) from {numbers}".encode())
                sent += 100

    # ---- ended processes ----------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """Kill a worker of the busy queue with its children."""
        self._cluster.kill(self._rng.choice(self._cluster.slots_of("worker")))

    def kill_the_calm_worker(self) -> None:
        """Kill the worker of the calm queue with its children."""
        self._cluster.kill(self._cluster.slots_of("calm")[0])

    def kill_a_child(self) -> None:
        """Kill a process of a worker's pool."""
        self._cluster.kill_child(self._rng.choice(self._cluster.slots_of("worker")), self._rng)

    def kill_a_daemon(self) -> None:
        """Kill a daemon."""
        self._cluster.kill(self._rng.choice(self._cluster.slots_of("daemon")))

    def kill_beat(self) -> None:
        """Kill Beat."""
        self._cluster.kill(self._cluster.slots_of("beat")[0])

    def terminate_sessions(self) -> None:
        """End some of pgreact's sessions."""
        with self._cluster.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from ("
                "  select pid from pg_stat_activity where application_name like 'pgreact%%'"
                "  order by random() limit %s) a",
                (self._rng.choice([1, 1, 3]),),
            )

    def restart_postgresql(self) -> None:
        """Restart PostgreSQL, by a fast stop or a crash."""
        with self._servers:
            self._cluster.postgres.restart(self._rng.choice(["fast", "immediate"]))

    def restart_broker(self) -> None:
        """Restart the broker."""
        with self._servers:
            self._cluster.restart_broker()

    def flush_broker(self) -> None:
        """Delete all messages of the broker."""
        with self._servers:
            self._cluster.flush_broker()

    def fill_the_disk(self) -> None:
        """Fill the disk of PostgreSQL's data for a while."""
        filler = self._cluster.filler
        assert filler is not None
        with self._servers:
            try:
                with filler.open("wb") as file:
                    space = os.statvfs(filler.parent)
                    with contextlib.suppress(OSError):  # PostgreSQL took some of the space meanwhile
                        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
                    time.sleep(self._rng.uniform(*DISK_FULL))
            finally:
                filler.unlink(missing_ok=True)


def _name(kind: Callable[[], None]) -> str:
    if isinstance(kind, functools.partial):
        return f"lock rows of {kind.args[0]}"
    return kind.__name__.replace("_", " ")
