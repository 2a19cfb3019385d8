"""What goes wrong: things that end, and transactions of others that do not."""

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
from benchmarks.soak_load import Load, unique
from benchmarks.soak_plant import Plant
from tests.hostile import HOSTILE, impose

AT_ONCE = 4  # faults under way at the same time
PAUSE = (0.2, 1.0)  # seconds between the beginnings of two faults
SHORT, LONG = (0.5, 3.0), (names.LEASE, names.HELD_LONGEST)  # seconds a transaction is held open
DISK_FULL = (1.0, 3.0)  # seconds
FLOOD = 3.0  # seconds
FLOOD_RATE = 5000  # foreign notifications a second: what one session without rights sends without effort
CANCELS = 3.0  # seconds of cancelled statements
CANCEL_PAUSE = 0.05  # seconds between two
# A fault that itself meets a lock gives up: it is to hold locks, not to wait for them.
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
    """One thing that went wrong."""

    name: str
    began: float  # seconds since 1970
    ended: float
    refused: str  # why it could not be done; empty: it was


class Faults:
    """Does what goes wrong, at random."""

    def __init__(self, plant: Plant, load: Load, dice: random.Random, left_out: set[str]) -> None:
        """Nothing goes wrong yet.

        Args:
            plant: What it happens to.
            load: What goes on meanwhile.
            dice: Decides.
            left_out: Names of faults that are not done.
        """
        self._left_out = left_out
        self._servers = threading.Lock()  # one of them is restarted, or its disk filled, at a time
        self._plant = plant
        self._load = load
        self._dice = dice
        self._deck: dict[bool, list[Callable[[], None]]] = {False: [], True: []}
        self._end = threading.Event()
        self.done: list[Fault] = []
        self.held: set[int] = set()  # jobs whose rows we held
        self.errors: list[BaseException] = []

    def during(self, seconds: float, *, ending: bool) -> None:
        """Let things go wrong for a while; when this returns all that was held open has ended.

        Args:
            seconds: How long new faults begin.
            ending: Processes, sessions, servers and messages end, too; else workers of the busy queue alone.
        """
        running: list[threading.Thread] = []
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._load.over.is_set():
            time.sleep(min(left, self._dice.uniform(*PAUSE)))
            running = [thread for thread in running if thread.is_alive()]
            if len(running) < AT_ONCE:
                thread = threading.Thread(target=self._do, args=(self._next(ending=ending),))
                thread.start()
                running.append(thread)
        for thread in running:
            thread.join()

    def impose_defaults(self) -> None:
        """Give the database other defaults, which sessions that open from now on have."""
        if "defaults" in self._left_out:
            return
        with self._plant.connect() as connection:
            impose(connection, names.DATABASE, self._dice.choice(list(HOSTILE.values())))

    def tally(self) -> dict[str, tuple[int, int, str]]:
        """Return how often each fault was done, how often it could not be, and why last."""
        found: dict[str, tuple[int, int, str]] = {}
        for fault in sorted(self.done, key=lambda fault: fault.name):
            done, refused, why = found.get(fault.name, (0, 0, ""))
            if fault.refused:
                found[fault.name] = done, refused + 1, fault.refused.splitlines()[0]
            else:
                found[fault.name] = done + 1, refused, why
        return found

    def _next(self, *, ending: bool) -> Callable[[], None]:
        """Return the next fault: all kinds in turn, in random order."""
        deck = self._deck[ending]
        if not deck:
            deck += (kind for kind in self._kinds(ending=ending) if _name(kind) not in self._left_out)
            self._dice.shuffle(deck)
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
            if self._plant.filler is not None:
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

    # ---- transactions of others ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(
        self, seconds: tuple[float, float] | None = None
    ) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        """A transaction that stays open for a while after the block, and then ends one way or the other."""
        span = self._dice.uniform(*(seconds or self._dice.choice([SHORT, SHORT, LONG])))
        commit = self._dice.random() < 0.5
        connection = self._plant.connect(autocommit=False, lock_timeout=FAULT_WAIT)
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
        found = [row[0] for row in self._plant.rows(statement, *values)]
        self._dice.shuffle(found)
        return found

    def cancel_waiting(self) -> None:
        """Cancel some jobs that wait, and do not commit."""
        jobs = self._some(
            "select id from pgreact.queue where lane <> %s order by random() limit 5", names.CALM
        )
        with self._open() as connection:
            self._cancel(connection, jobs)

    def cancel_first_of_a_lane(self) -> None:
        """Cancel as many jobs at the head of a lane as there are places, and do not commit."""
        lane = names.HEADS
        with self._plant.connect(autocommit=False, lock_timeout=FAULT_WAIT) as connection:
            connection.execute("update pgreact.lane set paused = true where name = %s", (lane,))
            connection.commit()
            for _ in range(2 * names.PLACES):
                self._load.enqueue(connection, "heads", lane=lane)
            connection.commit()
        jobs = self._plant.rows(
            "select id from pgreact.queue where lane = %s order by priority desc, run_at, id limit %s",
            lane,
            names.PLACES,
        )
        try:
            with self._open() as connection:
                self._cancel(connection, [job for (job,) in jobs])
                self._plant.rows("update pgreact.lane set paused = false where name = %s returning 1", lane)
        finally:
            self._unpause(lane)

    def _unpause(self, lane: str) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                self._plant.rows("update pgreact.lane set paused = false where name = %s returning 1", lane)
                return
            time.sleep(PAUSE[0])

    def cancel_in_progress(self) -> None:
        """Cancel some jobs that were claimed or run, in any order, and do not commit."""
        jobs = self._some(
            "select id from pgreact.in_progress where lane <> %s order by published_at nulls first limit 5",
            names.CALM,
        )
        with self._open() as connection:
            self._cancel(connection, jobs)

    def lock_rows(self, table: str) -> None:
        """Lock rows of a table of pgreact's."""
        with self._open() as connection:
            statement = _ROWS[table].format(self._dice.choice(_STRENGTHS))
            rows = connection.execute(statement.encode(), (names.CALM,)).fetchall()
            self.held.update(int(str(row[0])) for row in rows)

    def enqueue_without_a_commit(self) -> None:
        """Take a unique key that others want, and do not commit."""
        with self._open() as connection:
            self._load.enqueue(connection, "unique", **unique(self._dice))

    def read_as_a_dump_does(self) -> None:
        """Hold all tables as pg_dump does, while the history needs a partition."""
        with self._plant.connect(lock_timeout=FAULT_WAIT) as connection:
            row = connection.execute(_PARTITION.encode()).fetchone()
            if row is not None:  # of a day to come, since it is empty
                connection.execute(f"drop table {row[0]}".encode())
        with self._open(LONG) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            for table in _READ:
                connection.execute(f"lock table pgreact.{table} in access share mode".encode())

    def publish_all_tables(self) -> None:
        """Let updates and deletes fail where a table has no replica identity."""
        name = f"soak_{self._load.number()}"
        with self._plant.connect(lock_timeout=FAULT_WAIT) as connection:
            connection.execute(f"create publication {name} for all tables".encode())
        try:
            time.sleep(self._dice.uniform(*SHORT))
        finally:
            self._until_done(f"drop publication if exists {name}")

    def _until_done(self, statement: str) -> None:
        while True:
            with contextlib.suppress(psycopg.Error), self._plant.connect() as connection:
                connection.execute(statement.encode())
                return
            time.sleep(PAUSE[0])

    def cancel_statements(self) -> None:
        """Cancel what pgreact's sessions are doing, again and again."""
        end = time.monotonic() + CANCELS
        with self._plant.connect() as connection:
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
        with self._plant.connect() as connection:
            connection.execute(f"set session authorization {names.STRANGER}".encode())
            began = time.monotonic()
            while (now := time.monotonic()) < end:
                if sent > (now - began) * FLOOD_RATE:
                    time.sleep(0.01)
                    continue
                payload = self._dice.choice(
                    ["'routes'", "'schedule'", "'0'", "n::text", "'flight 1 x done'", "n || ' ?'"]
                )
                numbers = f"generate_series({sent}, {sent + 99}) n"
                connection.execute(f"select pg_notify('pgreact', {payload}) from {numbers}".encode())
                sent += 100

    # ---- what ends ----------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """Kill a worker of the busy queue with its children."""
        self._plant.kill(self._dice.choice(self._plant.slots_of("worker")))

    def kill_the_calm_worker(self) -> None:
        """Kill the worker of the calm queue with its children."""
        self._plant.kill(self._plant.slots_of("calm")[0])

    def kill_a_child(self) -> None:
        """Kill a process that runs tasks."""
        self._plant.kill_child(self._dice.choice(self._plant.slots_of("worker")), self._dice)

    def kill_a_daemon(self) -> None:
        """Kill a daemon."""
        self._plant.kill(self._dice.choice(self._plant.slots_of("daemon")))

    def kill_beat(self) -> None:
        """Kill Beat."""
        self._plant.kill(self._plant.slots_of("beat")[0])

    def terminate_sessions(self) -> None:
        """End some of pgreact's sessions."""
        with self._plant.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from ("
                "  select pid from pg_stat_activity where application_name like 'pgreact%%'"
                "  order by random() limit %s) a",
                (self._dice.choice([1, 1, 3]),),
            )

    def restart_postgresql(self) -> None:
        """Restart PostgreSQL, in order or by a crash."""
        with self._servers:
            self._plant.postgres.restart(self._dice.choice(["fast", "immediate"]))

    def restart_broker(self) -> None:
        """Restart the broker."""
        with self._servers:
            self._plant.restart_broker()

    def flush_broker(self) -> None:
        """Lose all messages."""
        with self._servers:
            self._plant.flush_broker()

    def fill_the_disk(self) -> None:
        """Let the disk of PostgreSQL's data be full for a while."""
        filler = self._plant.filler
        assert filler is not None
        with self._servers:
            try:
                with filler.open("wb") as file:
                    space = os.statvfs(filler.parent)
                    with contextlib.suppress(OSError):  # PostgreSQL took some of it meanwhile
                        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
                    time.sleep(self._dice.uniform(*DISK_FULL))
            finally:
                filler.unlink(missing_ok=True)


def _name(kind: Callable[[], None]) -> str:
    if isinstance(kind, functools.partial):
        return f"lock rows of {kind.args[0]}"
    return kind.__name__.replace("_", " ")
