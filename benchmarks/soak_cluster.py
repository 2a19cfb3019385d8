"""The cluster under test: PostgreSQL on a small disk, a broker, and supervised processes."""

import collections
import contextlib
import ctypes
import dataclasses
import datetime
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
import redis
from kombu import Connection, Queue

from benchmarks import soak_names as names
from benchmarks.processes import ROOT, Workshop
from pgreact.demo.guard import Guard
from pgreact.demo.journal import ENDED, Entry, Journal
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.demo.process import Process
from pgreact.errors import PgreactError
from tests import servers
from tests.hostile import PINNED, options

DISK = 512 << 20  # bytes of PostgreSQL's file system: several times the data of a long run
START_DEADLINE = 60.0
LATEST = 6  # last lines of each process, printed when the cluster does not recover
RESTART_PAUSE = 0.5  # seconds until an ended process is restarted, like a service manager's
# Seconds until a worker's children are killed: one that loses a child while it starts its pool gives up, as
# Celery wants it.
GROWN_UP = 10.0
_CLONE_NEWNS = 0x00020000
_WARNING = re.compile(r"(?:WARNING|ERROR|CRITICAL)/\w+\] (.*)")  # of Celery's log

_CONFIGURATION = f"""
[queue]
max_in_progress = {names.PLACES}
lease = "{names.LEASE:g}s"
retention = "1d"

[lanes.default]
max_in_progress = {names.LANE_PLACES["default"]}
max_lost = 100000

[lanes.{names.NARROW}]
max_in_progress = {names.LANE_PLACES[names.NARROW]}

[lanes.{names.RATED}]
max_in_progress = {names.LANE_PLACES[names.RATED]}
rate = {names.RATE:g}
burst = {names.BURST}

[lanes.{names.HEADS}]
max_in_progress = {names.LANE_PLACES[names.HEADS]}

[lanes.{names.CALM}]

[[outbox]]
table = "public.orders"
enqueue = "soak.changed"
lane = "default"
on = ["insert", "update"]

[routes.wakes]
task = "soak.woken"
sweep = 0                  # no backstop, so that a lost signal shows
window = "50ms"
options = {{ queue = "{names.CALM}" }}
tables = [{{ table = "public.wake", on = ["insert"] }}]

[routes.flights]
task = "soak.flown"
sweep = 0
window = "50ms"
single_flight = "run"
expires = "{names.LEASE:g}s"
options = {{ queue = "{names.CALM}" }}
tables = [{{ table = "public.fly", on = ["insert"] }}]
"""
# The key of orders has one column of each type whose text form depends on the session's settings.
_TABLES = """
create table sent (
    number bigint primary key,
    job bigint not null,
    kind text not null,
    key text,
    run_at timestamptz
);
create table cancelled (job bigint primary key, answer text);
create table wake (id bigint generated always as identity primary key);
create table fly (id bigint generated always as identity primary key);
create table orders (
    n integer,
    at timestamptz not null default '2026-03-04 05:06:07.89+00',
    span interval not null default '1 day 2:03:04',
    raw bytea not null default '\\x00ff41',
    ratio float8 not null default 0.1 + 0.2,
    version integer not null default 1,
    primary key (n, at, span, raw, ratio)
);
"""
_RECORDS = """
create table run (
    id bigint generated always as identity primary key,
    task text not null,
    number bigint,
    job bigint,
    attempt integer,
    task_id uuid,
    occurrence timestamptz,
    pid integer not null,
    began timestamptz not null default clock_timestamp(),
    ended timestamptz
)
"""


_SESSIONS = """
select application_name, state, wait_event, pg_blocking_pids(pid), extract(epoch from state_change)::float8,
    left(regexp_replace(query, '\\s+', ' ', 'g'), 100)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
order by application_name
"""


class EventLog(Journal):
    """A journal that keeps only the events that the checks need, since a long run logs very many."""

    _KEPT = frozenset({"leader.elected", "leader.lost", "leader.resigned", "listener.lost", ENDED})

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.latest: dict[str, collections.deque[str]] = {}  # the last lines of each process
        self.published: dict[str, float] = {}  # start of each route's last publish
        self.ready: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Count an event, and keep it if the checks need it."""
        self.counts[entry.name] += 1
        said = str(entry.keys.get("text") or {"event": entry.name, **entry.keys})
        self.latest.setdefault(entry.source, collections.deque(maxlen=LATEST)).append(
            f"{entry.at:.3f} {said}"
        )
        if entry.name == "dispatch.published":
            began = entry.at - entry.keys["publish_ms"] / 1000
            route = entry.keys["route"]
            self.published[route] = max(began, self.published.get(route, 0.0))
        elif entry.name in {"worker.ready", "leader.elected", "standby.waiting"}:
            self.ready.add(entry.source)
        if entry.name == "(text)" and (found := _WARNING.search(entry.keys["text"])):
            self.errors[re.sub(r"[0-9a-f-]{30,}|\d+", "…", f"{entry.source}: {found[1]}")[:160]] += 1
        if entry.name != ENDED and entry.keys.get("level") in {"warning", "error"}:
            why = entry.keys.get("error") or entry.keys.get("reason") or ""
            self.errors[f"{entry.source}: {entry.name}: {why}"[:160]] += 1
        if entry.name in self._KEPT:
            super().add(entry)


@dataclasses.dataclass
class Slot:
    """A supervised process."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    process: Process | None = None
    killed: bool = False  # by a fault


@dataclasses.dataclass(frozen=True)
class Exit:
    """An unexpected end of a process."""

    at: float
    name: str
    output: str

    @property
    def ours(self) -> bool:
        """Whether pgreact is at fault: kombu ends some workers after a restart of the broker."""
        return "worker" not in self.name or str(ROOT / "pgreact") in self.output

    def __str__(self) -> str:
        when = datetime.datetime.fromtimestamp(self.at, datetime.UTC)
        return f"{self.name} at {when:%H:%M:%S}:\n{self.output}"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Resource use at one time."""

    at: float
    memory: dict[str, int]  # bytes, by the process's name
    sessions: int


class Cluster:
    """Servers and processes under test."""

    def __init__(self, broker: str) -> None:
        """Take the broker's name; start nothing.

        Args:
            broker: ``redis`` or ``rabbitmq``.
        """
        self._kind = broker
        self.log = EventLog()
        self.exits: list[Exit] = []
        self.killed_pids: set[int] = set()
        self.samples: list[Sample] = []
        self.filler: Path | None = None  # a file that fills the disk of PostgreSQL's data

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._supervisor.join()
        for slot in self.slots:
            if slot.process is not None:
                slot.process.stop(0)
        self._stack.close()

    # ---- the bench's connections --------------------------------------------------------------------------

    def connect(self, *, autocommit: bool = True, **settings: str) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connect as superuser, with PostgreSQL's own defaults.

        Args:
            autocommit: Run each statement in its own transaction.
            **settings: Of the session, as PostgreSQL names them.
        """
        return psycopg.connect(
            self.postgres.dsn(dbname=names.DATABASE),
            autocommit=autocommit,
            connect_timeout=5,
            application_name="soak",
            options=f"{PINNED} {options(settings)}",
        )

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows."""
        with self.connect() as connection:
            return connection.execute(statement.encode(), values or None).fetchall()

    def runs(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the database of the recorded runs."""
        with psycopg.connect(self.records.dsn(), autocommit=True, options=PINNED) as connection:
            return connection.execute(statement.encode()).fetchall()

    # ---- faults -------------------------------------------------------------------------------------------

    def kill(self, slot: Slot) -> None:
        """Kill a process and all its children, like a loss of power."""
        process = slot.process
        if process is None:
            return
        slot.killed = True
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
            self.killed_pids.update(child.pid for child in family)
        self.killed_pids.add(process.pid)
        process.kill()

    def kill_child(self, slot: Slot, rng: random.Random) -> None:
        """Kill one process of a worker's pool, like the kernel when memory runs out."""
        if slot.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            if time.time() - psutil.Process(slot.process.pid).create_time() < GROWN_UP:
                return
            child = rng.choice(psutil.Process(slot.process.pid).children())
            self.killed_pids.add(child.pid)
            child.send_signal(signal.SIGKILL)

    def flush_broker(self) -> None:
        """Delete all messages of the broker."""
        if self._kind == "redis":
            with redis.Redis.from_url(self.broker.url) as client:
                client.flushall()
            return
        with Connection(self.broker.url) as connection:
            for queue in (names.BUSY, names.CALM):
                with contextlib.suppress(*connection.channel_errors):
                    Queue(queue, channel=connection.channel()).purge()

    def restart_broker(self) -> None:
        """Restart the broker; Redis loses all messages."""
        self.broker.stop()
        self.broker.start()

    def slots_of(self, prefix: str) -> list[Slot]:
        """Return the processes whose name has this prefix."""
        return [slot for slot in self.slots if slot.name.startswith(prefix)]

    # ---- start --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        enter = self._stack.enter_context
        workshop = enter(Workshop())
        workshop.directory.chmod(0o755)  # PostgreSQL, which is not root, must enter
        self._guard = enter(Guard())
        self.records = enter(EmbeddedPostgres())
        self.postgres = enter(self._postgres_on_a_small_disk(workshop.directory / "pg"))
        make = servers.redis_server if self._kind == "redis" else servers.rabbitmq_server
        self.broker = enter(make())
        with psycopg.connect(self.records.dsn(), autocommit=True) as connection:
            connection.execute(_RECORDS.encode())
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {names.DATABASE}".encode())
        self._install(workshop)
        self._directory = workshop.directory
        self._environment = workshop.environment(
            {
                "SOAK_BROKER": self.broker.url,
                "SOAK_RECORDS": self.records.dsn(),
                "C_FORCE_ROOT": "1",
                "PYTHONUNBUFFERED": "1",
            }
        )
        self.slots = list(self._processes())
        self._over = threading.Event()
        for slot in self.slots:
            self._run(slot)
        if not self.log.until(lambda: self._expected_ready() <= self.log.ready, START_DEADLINE):
            raise PgreactError(f"not ready: {self._expected_ready() - self.log.ready}\n{self.output()}")
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._supervisor.start()
        self._remember_beat()

    def _remember_beat(self) -> None:
        """Give the schedule of Beat's application a history, as the others have."""
        end = time.monotonic() + START_DEADLINE
        while not self.rows(
            "update pgreact.schedule set misfire = 'all', catch_up = 10000, grace = '1 h', retention = '1 "
            "day' "
            "where name = %s returning 1",
            names.BEAT_ENTRY,
        ):
            if time.monotonic() > end:
                raise PgreactError(f"Beat does not start:\n{self.output()}")
            time.sleep(0.1)

    def state(self) -> str:
        """Return state and last lines of each process, as text."""
        lines = [
            f"it is {time.time():.3f}; the supervisor {'works' if self._supervisor.is_alive() else 'IS DEAD'}"
        ]
        for slot in self.slots:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(slot.process.pid if slot.process else 0)
                lines.append(f"{slot.name}: {process.status()} since {process.create_time():.3f}")
            lines += [f"    {line[:300]}" for line in self.log.latest.get(slot.name, ())]
        with contextlib.suppress(psycopg.Error):
            lines += [
                f"session {application}: {state}, {wait}, blocked by {blockers}, since {since:.3f}: {text}"
                for application, state, wait, blockers, since, text in self.rows(_SESSIONS)
            ]
        return "\n".join(lines)

    def output(self) -> str:
        """Return the last lines of the ended processes, as text."""
        return "\n".join(f"{e.source}: {e.keys['output']}" for e in self.log.find(ENDED))

    def _install(self, workshop: Workshop) -> None:
        with self.connect() as owner:
            owner.execute(_TABLES.encode())
        (workshop.directory / "pgreact.toml").write_text(_CONFIGURATION)
        workshop.python("-m", "pgreact", "apply", PGREACT_DSN=self.postgres.dsn(dbname=names.DATABASE))
        roles = {names.DAEMON: ["daemon"], names.WORKER: ["worker"], names.BEAT: ["daemon", "scheduler"]}
        with self.connect() as owner:
            for role, kinds in {**roles, names.STRANGER: []}.items():
                owner.execute(f"create role {role} login password '{self.postgres.password}'".encode())
                for kind in kinds:
                    owner.execute("select pgreact.grant_role(%s::regrole, %s)", (role, kind))
            for delivery, schedules in (
                ("queue", names.QUEUED_SCHEDULES),
                ("direct", names.DIRECT_SCHEDULES),
            ):
                for schedule in schedules:
                    owner.execute(
                        "insert into pgreact.schedule (name, task, every, misfire, catch_up, grace, "
                        "retention, "
                        "lane, max_attempts, delivery, options) "
                        "values (%s, 'soak.tick', '1 s', 'all', 10000, '1 h', '1 day', 'default', 1000, "
                        "%s, %s)",
                        (schedule, delivery, f'{{"queue": "{names.BUSY}"}}'),
                    )

    def _processes(self) -> Iterator[Slot]:
        def dsn(role: str) -> str:
            return self.postgres.dsn(dbname=names.DATABASE, user=role)

        app = ("-m", "celery", "-A", "benchmarks.soak_app")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning")
        for n in (1, 2):
            yield Slot(
                f"daemon {n}",
                ("-m", "pgreact", "-A", "benchmarks.soak_app", "listen", "--log-format", "json"),
                {"PGREACT_DSN": dsn(names.DAEMON), "SOAK_DSN": dsn(names.DAEMON)},
            )
        for name, queue, children in (
            ("worker 1", names.BUSY, 2),
            ("worker 2", names.BUSY, 2),
            ("calm worker", names.CALM, 2),
        ):
            node = f"{name.replace(' ', '-')}@soak"
            yield Slot(
                name,
                (*app, "worker", "-Q", queue, "-c", str(children), "-n", node, *quiet),
                {"SOAK_DSN": dsn(names.WORKER)},
            )
        yield Slot(
            "beat",
            (*app, "beat", "-S", "pgreact", "--pidfile=", "-l", "warning"),
            {"SOAK_DSN": dsn(names.BEAT)},
        )

    def _expected_ready(self) -> set[str]:
        # at log level "warning" a worker does not log its readiness
        return {slot.name for slot in self.slots_of("daemon")}

    def _run(self, slot: Slot) -> None:
        slot.killed = False
        slot.process = Process(
            slot.name,
            [sys.executable, *slot.arguments],
            environ={**self._environment, **slot.environment},
            cwd=self._directory,
            journal=self.log,
            guard=self._guard,
        )

    def _supervise(self) -> None:
        sampled = 0.0
        while not self._over.wait(RESTART_PAUSE):
            for slot in self.slots:
                if slot.process is not None and _is_gone(slot.process.pid):
                    self._restart(slot, slot.process)
            if time.monotonic() - sampled > 5:
                sampled = time.monotonic()
                self._sample()

    def _restart(self, slot: Slot, process: Process) -> None:
        """Record the end of a process, and start it again."""
        for other in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(other.pid) == process.pid:
                    self.killed_pids.add(other.pid)  # orphans, which are killed with their parent's group
        process.stop(0)
        if not slot.killed:
            words = self.log.find(ENDED, slot.name)
            said = str(words[-1].keys["output"]) if words else ""
            self.exits.append(Exit(time.time(), slot.name, said))
        self._run(slot)

    def _sample(self) -> None:
        memory = {}
        for slot in self.slots:
            if slot.process is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    memory[slot.name] = psutil.Process(slot.process.pid).memory_info().rss
        with contextlib.suppress(psycopg.Error):
            ((sessions,),) = self.rows(
                "select count(*) from pg_stat_activity where application_name like 'pgreact%%'"
            )
            self.samples.append(Sample(time.time(), memory, sessions))

    @contextlib.contextmanager
    def _postgres_on_a_small_disk(self, directory: Path) -> Iterator[EmbeddedPostgres]:
        directory.mkdir(mode=0o755)
        data = directory / "data"
        small = _mount(data)
        settings = {"track_commit_timestamp": "on", "max_connections": "300"}
        with EmbeddedPostgres(directory, settings=settings) as postgres:
            if small:
                # A full disk should fail statements; without space for WAL, PostgreSQL would crash.
                postgres.stop()
                wal = directory / "wal"
                shutil.move(data / "pg_wal", wal)
                _give(wal, data.stat())
                (data / "pg_wal").symlink_to(wal)
                self.filler = data / "filler"
                postgres.start()
            yield postgres


def _is_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def _mount(directory: Path) -> bool:
    """Mount a file system on a directory, for the life of this process; return whether that is allowed."""
    directory.mkdir(mode=0o700)
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    # in a mount namespace of this process and its children, so that it ends with them
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        return False
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "pgreact-soak", str(directory)],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
    return True


def _give(directory: Path, to: os.stat_result) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, to.st_uid, to.st_gid)
