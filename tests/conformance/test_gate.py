"""The gate between real writers and a real daemon: every commit is dispatched, whatever the gate's mode.

Every route here has ``ready = "select false"``: sweeps are silent, so that only notifications, polls and
drains can dispatch. Routes share one daemon; each test has a route and a table of its own.
"""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgreact.apply import apply
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.settings import Settings
from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import CLOSED
from tests import servers
from tests.harness import Daemon, Database, eventually
from tests.signal_listener import SignalListener

Writer = psycopg.Connection[tuple[Any, ...]]

CALM = 0.1  # seconds without an event: five polls
NO_WAIT = "-c statement_timeout=3s -c lock_timeout=1s"  # for a writer that must not wait


class Plant:
    """A database and the daemon that leads."""

    def __init__(self, server: EmbeddedPostgres, broker: str, place: Path) -> None:
        self.server = server
        self.database = Database(server.dsn())
        self._broker = broker
        self._place = place
        self.daemons: list[Daemon] = []
        with self.database.connect() as connection:
            list(apply(connection, Settings.model_validate({}), 10.0, lambda _line: None))
        self.leader = self.start()
        self.leader.wait_for("leader.elected")

    def start(self, dsn: str | None = None) -> Daemon:
        """Start another daemon."""
        daemon = Daemon(dsn or self.database.dsn, self._broker, cwd=self._place)
        self.daemons.append(daemon)
        return daemon.ready()

    def kill_the_leader(self) -> None:
        """Kill it at once; a standby takes over."""
        standby, dead = self.start(), self.leader
        dead.signal(signal.SIGKILL)
        standby.wait_for("leader.elected")
        dead.kill()
        self.leader = standby

    def close(self) -> None:
        """End all daemons."""
        for daemon in self.daemons:
            daemon.kill()


@pytest.fixture(scope="module", params=[18])
def plant(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plant]:
    """A server that takes prepared transactions, and a daemon that leads."""
    servers.require_or_skip(f"pg{request.param}")
    with servers.Postgres(
        bindir=servers.postgres_binaries(request.param), settings={"max_prepared_transactions": "20"}
    ) as server:
        found = Plant(server, redis_url, tmp_path_factory.mktemp("plant"))
        yield found
        found.close()


on_each_postgresql = pytest.mark.parametrize("plant", [14, 18], indirect=True)


class Road:
    """A route with a table of its own."""

    def __init__(self, plant: Plant, **settings: object) -> None:
        self.plant = plant
        self.database = plant.database
        self.name = self.table = f"q_{uuid4().hex[:8]}"
        self.insert = f"insert into {self.table} default values"
        values = {
            "task": "t",
            "sweep": "0",
            "window": "1 ms",
            "ready": "select false",
            "gate_poll": "20 ms",
            "gate_close_rate": "20",
            "gate_open_after": "300 ms",
            "options": f'{{"queue": "{self.name}"}}',
            **settings,
        }
        names = ", ".join(f'"{name}"' for name in values)
        with self.database.connect() as connection:
            connection.execute(f"create table {self.table} (id bigint generated always as identity)".encode())
            row = connection.execute(
                f"insert into pgreact.route (name, {names}) "
                f"values (%s{', %s' * len(values)}) returning id".encode(),
                [self.name, *values.values()],
            ).fetchone()
            assert row is not None
            self.id: int = row[0]
        self.attach(self.table)
        self.wait_for("sweep.finished", reason="added")

    @property
    def leader(self) -> Daemon:
        """The daemon that leads."""
        return self.plant.leader

    def attach(self, table: str) -> None:
        """Watch a table."""
        self.database.run(f"select pgreact.attach('{table}', '{self.name}', '{{insert}}')")

    def set(self, setting: str, value: str) -> None:
        """Change a setting of the route, as an administrator would."""
        self.database.run(f"update pgreact.route set {setting} = '{value}' where id = {self.id}")

    def seen(self, name: str, **keys: object) -> int:
        """Return how many events of this route the leader's log has."""
        return len(self.leader.seen(name, route=self.name, **keys))

    def wait_for(self, name: str, count: int = 1, **keys: object) -> dict[str, Any]:
        """Wait until it has so many."""
        return self.leader.wait_for(name, count, route=self.name, **keys)

    def sequence_value(self) -> int:
        """Return S."""
        return int(self.database.value(f"select last_value from pgreact.gate_{self.id}"))

    def held(self) -> bool:
        """Return whether any transaction but a poll holds S's lock."""
        return bool(self.database.value(f"select pgreact.holders('{{{self.id}}}') <> '{{}}'"))

    @contextlib.contextmanager
    def writer(self, **options: Any) -> Iterator[Writer]:
        """A session in a transaction, which no statement may make wait."""
        with self.database.connect(autocommit=False, options=NO_WAIT, **options) as connection:
            yield connection
            connection.rollback()

    def close_gate(self) -> None:
        """Close the gate by a burst; by another, if it was open again before this looked."""
        before = self.seen("gate.closed")
        with self.database.connect() as connection:
            eventually(
                lambda: (
                    connection.execute(self.insert.encode())
                    and self.seen("gate.closed") > before
                    and self.sequence_value() >= CLOSED
                ),
                "a closed gate",
            )
        self.calm()

    def opens(self) -> None:
        """Wait until it opens, once more."""
        before = self.seen("gate.opened")
        self.wait_for("gate.opened", before + 1)
        self.calm()

    def calm(self) -> None:
        """Wait until nothing that was done before can still cause a dispatch."""

        def quiet() -> bool:
            ours = (e for e in list(self.leader.events) if e.get("route") == self.name)
            return time.monotonic() - max((e["_heard"] for e in ours), default=0.0) > CALM

        eventually(quiet, "silence")

    @contextlib.contextmanager
    def dispatched(self) -> Iterator[None]:
        """Hold that what is done here is followed by a dispatch."""
        self.calm()
        before = self.seen("dispatch.published")
        yield
        self.wait_for("dispatch.published", before + 1)

    @contextlib.contextmanager
    def skipping(self) -> Iterator[None]:
        """Hold that what is written here is not notified, and wait until the poll has seen it."""
        before, value = self.seen("dispatch.published"), self.sequence_value()
        assert value >= CLOSED
        yield
        assert self.sequence_value() > value
        self.wait_for("dispatch.published", before + 1)

    def works(self) -> None:
        """Hold that a commit of now is dispatched."""
        with self.dispatched():
            self.database.run(self.insert)

    def remove(self) -> None:
        """Delete the route and its table."""
        self.database.run(f"delete from pgreact.route where id = {self.id}", f"drop table {self.table}")


@pytest.fixture
def road(plant: Plant) -> Iterator[Callable[..., Road]]:
    """Makes a route: ``road(gate="closed")``."""
    with contextlib.ExitStack() as stack:

        def make(**settings: object) -> Road:
            made = Road(plant, **settings)
            stack.callback(made.remove)
            return made

        yield make


@pytest.fixture
def auto(road: Callable[..., Road]) -> Road:
    """A route whose gate opens after 300 ms without a change."""
    return road()


@pytest.fixture
def closed_route(road: Callable[..., Road]) -> Road:
    """A route whose gate is closed and stays so."""
    found = road(gate_open_after="1 h")
    found.close_gate()
    return found


# ---- a writer and the gate ---------------------------------------------------------------------------------


def test_a_notification_sent_before_the_closing_counts_after_it(road: Callable[..., Road]) -> None:
    route = road(gate_open_after="1 h")
    with route.writer() as writer:
        writer.execute(route.insert.encode())
        route.close_gate()
        with SignalListener(route.database) as ear:
            with route.dispatched():
                writer.commit()
            assert ear.signalled() == [route.name]
    route.works()


def test_a_poll_finds_a_writer_that_skips(closed_route: Road) -> None:
    with closed_route.writer() as writer:
        with closed_route.skipping():
            writer.execute(closed_route.insert.encode())
        with closed_route.dispatched():
            writer.commit()
    with SignalListener(closed_route.database) as ear:
        closed_route.works()
        assert closed_route.name not in ear.signalled()


def test_an_opened_gate_makes_writers_notify(auto: Road) -> None:
    auto.close_gate()
    auto.opens()
    closed, opened = auto.wait_for("gate.closed"), auto.wait_for("gate.opened")
    assert closed["reason"] == "more than 20 notifications a second"
    assert opened["polls"] > 5
    assert opened["closed_s"] >= 0.3
    with SignalListener(auto.database) as ear:
        auto.works()
        assert ear.signalled() == [auto.name]
        assert auto.sequence_value() < CLOSED


def test_a_writer_that_skipped_and_commits_after_the_opening_is_drained(auto: Road) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            writer.execute(auto.insert.encode())
        auto.opens()
        with auto.dispatched():
            writer.commit()
    auto.works()


def test_a_writer_that_skipped_and_commits_after_two_closings_is_found(auto: Road) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            writer.execute(auto.insert.encode())
        auto.opens()
        auto.close_gate()
        auto.opens()
        with auto.dispatched():
            writer.commit()


def test_a_writer_that_skipped_and_rolls_back_costs_one_dispatch_at_most(auto: Road) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            writer.execute(auto.insert.encode())
        auto.opens()
        before = auto.seen("dispatch.published")
        writer.rollback()
        eventually(lambda: not auto.held(), "the end of the transaction")
        auto.calm()
        assert auto.seen("dispatch.published") - before <= 1
    auto.works()


def test_a_rollback_costs_no_dispatch_once_the_gate_is_open(auto: Road) -> None:
    auto.close_gate()
    auto.opens()
    before = auto.seen("signal.received")
    with auto.writer() as writer:
        for _ in range(20):
            writer.execute(auto.insert.encode())
            writer.rollback()
    auto.works()
    assert auto.seen("signal.received") == before + 1


@pytest.mark.parametrize("kept", [False, True])
def test_savepoints_that_are_rolled_back_lose_nothing(auto: Road, kept: bool) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            if kept:
                writer.execute(auto.insert.encode())
            writer.execute("savepoint s")
            writer.execute(auto.insert.encode())
            writer.execute("rollback to savepoint s")
        auto.opens()
        if not kept:
            writer.execute(auto.insert.encode())
        with auto.dispatched():
            writer.commit()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_snapshot_from_before_the_closing_hides_nothing(auto: Road, level: str) -> None:
    with auto.writer() as writer:
        writer.execute(f"set transaction isolation level {level}".encode())
        writer.execute("select 1")
        auto.close_gate()
        with auto.skipping():
            writer.execute(auto.insert.encode())
        auto.opens()
        with auto.dispatched():
            writer.commit()


def test_copied_rows_are_found(auto: Road) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with (
            auto.skipping(),
            writer.cursor().copy(f"copy {auto.table} (id) from stdin".encode()) as copy,
        ):
            for number in range(100):
                copy.write_row([number])
        auto.opens()
        with auto.dispatched():
            writer.commit()


def test_a_muted_writer_leaves_no_trace(closed_route: Road) -> None:
    value = closed_route.sequence_value()
    with closed_route.writer() as writer:
        writer.execute("select pgreact.mute()")
        writer.execute(closed_route.insert.encode())
        writer.execute("select pgreact.signal(%s)", [closed_route.name])
        assert not closed_route.held()
        writer.commit()
    assert closed_route.sequence_value() == value
    closed_route.works()


def test_a_signal_from_sql_is_found_too(auto: Road) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            writer.execute("select pgreact.signal(%s)", [auto.name])
        auto.opens()
        with auto.dispatched():
            writer.commit()
    with auto.dispatched():
        auto.database.run(f"select pgreact.signal('{auto.name}')")


def test_two_routes_of_one_table_have_a_gate_each(road: Callable[..., Road]) -> None:
    busy, calm = road(), road(gate_close_rate=1_000_000)
    calm.attach(busy.table)
    busy.close_gate()
    with busy.writer() as writer:
        with busy.skipping():
            writer.execute(busy.insert.encode())
        busy.opens()
        with busy.dispatched(), calm.dispatched():
            writer.commit()
    assert not calm.seen("gate.closed")


def test_a_writer_that_stays_keeps_no_gate_closed(auto: Road) -> None:
    with auto.writer() as early:
        early.execute(auto.insert.encode())
        for _ in range(3):
            auto.close_gate()
            before = auto.seen("gate.opened")
            auto.wait_for("gate.opened", before + 1)
            with SignalListener(auto.database) as ear:
                auto.database.run(auto.insert)
                assert ear.signalled() == [auto.name]
        with auto.dispatched():
            early.commit()
    auto.works()


# ---- two-phase commit --------------------------------------------------------------------------------------


@on_each_postgresql
@pytest.mark.parametrize("event", ["opens", "kill"])
def test_a_prepared_writer_that_skipped_is_found_when_committed(plant: Plant, auto: Road, event: str) -> None:
    auto.close_gate()
    with auto.writer() as writer:
        with auto.skipping():
            writer.execute(auto.insert.encode())
        writer.execute(f"prepare transaction '{auto.name}'".encode())
    if event == "opens":
        auto.opens()
    else:
        plant.kill_the_leader()
        auto.wait_for("sweep.finished", reason="elected")
    with auto.dispatched():
        auto.database.run(f"commit prepared '{auto.name}'")
    auto.works()


@on_each_postgresql
def test_a_route_set_closed_can_be_prepared_at_any_time(plant: Plant, road: Callable[..., Road]) -> None:
    route = road(gate="closed")
    for end in ("commit", "rollback"):
        with route.writer() as writer:
            with route.skipping():
                writer.execute(route.insert.encode())
                writer.execute("select pgreact.signal(%s)", [route.name])
            writer.execute(f"prepare transaction '{route.name}'".encode())
        if end == "commit":
            with route.dispatched():
                route.database.run(f"commit prepared '{route.name}'")
        else:
            route.database.run(f"rollback prepared '{route.name}'")
    assert not route.seen("gate.opened")


# ---- settings ----------------------------------------------------------------------------------------------


def test_a_route_set_closed_is_silent_without_any_daemon(
    database: Database, installed: Callable[..., None]
) -> None:
    route = {"task": "t", "gate": "closed"}
    database.run("create table job_queue (id int)")
    tables = [{"table": "job_queue", "on": ["insert", "update", "delete", "truncate"]}]
    installed(database, {"routes": {"dispatch": {**route, "tables": tables}}})
    statements = (
        "insert into job_queue values (1)",
        "update job_queue set id = 2",
        "select pgreact.signal('dispatch')",
        "delete from job_queue",
        "truncate job_queue",
    )
    with SignalListener(database) as ear, database.connect() as writer:
        assert ear.after(writer, *statements) == {statement: [] for statement in statements}
    route_id = database.value("select id from pgreact.route where name = 'dispatch'")
    assert database.value(f"select last_value from pgreact.gate_{route_id}") == len(statements)


def test_a_route_set_closed_is_polled_from_the_election_on(plant: Plant, road: Callable[..., Road]) -> None:
    route = road(gate="closed")
    assert route.wait_for("gate.closed")["reason"] == "set closed"
    with SignalListener(route.database) as ear:
        route.works()
        plant.kill_the_leader()
        assert route.wait_for("gate.closed")["reason"] == "set closed"
        route.works()
        assert ear.signalled() == []


def test_a_route_set_open_never_closes(road: Callable[..., Road]) -> None:
    route = road(gate="open", gate_close_rate=1)
    with SignalListener(route.database) as ear, route.database.connect() as writer:
        for _ in range(200):
            writer.execute(route.insert.encode())
        assert ear.signalled() == [route.name] * 200
    route.works()
    assert not route.seen("gate.closed")
    assert not route.held()
    assert route.sequence_value() == gates.OPEN


def test_settings_change_under_way(auto: Road) -> None:
    stop = threading.Event()

    def write() -> None:
        with auto.database.connect() as connection:
            while not stop.is_set():
                connection.execute(auto.insert.encode())

    settings = ["closed", "auto", "open", "closed", "open", "auto"]
    for number, setting in enumerate(settings, 1):
        stop.clear()
        active = [threading.Thread(target=write) for _ in range(3)]
        for thread in active:
            thread.start()
        try:
            auto.set("gate", setting)
            auto.wait_for("route.changed", number, keys=["gate"])
        finally:
            stop.set()
            for thread in active:
                thread.join()
        if setting == "closed":
            auto.wait_for("gate.closed", settings[:number].count("closed"), reason="set closed")
        else:
            eventually(lambda: auto.sequence_value() < CLOSED, "an open gate")
        auto.works()


def test_a_writer_that_skipped_while_set_closed_is_drained_after_the_setting_changed(
    road: Callable[..., Road],
) -> None:
    """The change waits for the writers of watched tables, but not for sessions that call pgreact.signal."""
    route = road(gate="closed")
    with route.writer() as writer:
        with route.skipping():
            writer.execute("select pgreact.signal(%s)", [route.name])
        route.set("gate", "auto")
        route.wait_for("gate.opened", reason="setting changed")
        with route.dispatched():
            writer.commit()


# ---- other roles and processes -----------------------------------------------------------------------------


def test_a_writer_without_rights_in_pgreact_writes_all_the_same(closed_route: Road) -> None:
    role = f"writer_{closed_route.name}"
    closed_route.database.run(
        f"create role {role} {closed_route.database.login}", f"grant insert on {closed_route.table} to {role}"
    )
    try:
        with closed_route.writer(user=role) as writer:
            with closed_route.skipping():
                writer.execute(closed_route.insert.encode())
            with closed_route.dispatched():
                writer.commit()
    finally:
        closed_route.database.run(f"drop owned by {role}", f"drop role {role}")


def test_a_leader_killed_while_the_gate_is_closed_loses_nothing(plant: Plant, closed_route: Road) -> None:
    with closed_route.writer() as writer:
        with closed_route.skipping():
            writer.execute(closed_route.insert.encode())
        plant.kill_the_leader()
        closed_route.wait_for("sweep.finished", reason="elected", dispatch=False)
        assert closed_route.sequence_value() < CLOSED
        with closed_route.dispatched():
            writer.commit()
    closed_route.works()


def test_a_role_that_may_only_connect_sets_no_gate_and_blocks_no_session(closed_route: Road) -> None:
    role = f"stranger_{closed_route.name}"
    closed_route.database.run(f"create role {role} {closed_route.database.login}")
    number = closed_route.database.value("select %s::regclass::oid::int", f"pgreact.gate_{closed_route.id}")
    try:
        with closed_route.database.connect(user=role, autocommit=False) as stranger:
            for statement in (
                f"select setval({number}, 1)",
                f"lock table pgreact.gate_{closed_route.id} in access exclusive mode",
                f"select pgreact.set_gates('{{{closed_route.id}}}', 1)",
            ):
                with pytest.raises(psycopg.Error, match="permission denied"), stranger.transaction():
                    stranger.execute(statement.encode())
            with closed_route.skipping():
                stranger.execute(f"select nextval({number})".encode())
            closed_route.works()
            with closed_route.dispatched():  # for nothing
                stranger.rollback()
    finally:
        closed_route.database.run(f"drop role {role}")


def test_a_lost_sequence_makes_no_write_fail(closed_route: Road) -> None:
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        closed_route.database.run(f"drop sequence pgreact.gate_{closed_route.id}")
    closed_route.works()
    closed_route.database.run(f"drop sequence pgreact.gate_{closed_route.id} cascade", closed_route.insert)
    with closed_route.dispatched():
        closed_route.database.run(f"select pgreact.signal('{closed_route.name}')")


# ---- other ways to the server ------------------------------------------------------------------------------


def test_writers_behind_a_pooler_in_transaction_mode_are_found(auto: Road) -> None:
    servers.require_or_skip("pgbouncer")
    with (
        servers.pgbouncer(auto.database.dsn, default_pool_size="2") as pooler,
        contextlib.ExitStack() as stack,
    ):
        first, second = (
            stack.enter_context(psycopg.connect(pooler.url, prepare_threshold=None)) for _ in range(2)
        )
        auto.close_gate()
        with auto.skipping():
            first.execute(auto.insert.encode())
        with auto.skipping():
            second.execute(auto.insert.encode())
        with auto.dispatched():
            second.commit()
        # the same server session has begun and ended other transactions meanwhile
        second.execute("select 1")
        second.commit()
        auto.opens()
        with auto.dispatched():
            first.commit()
        with auto.dispatched():
            second.execute(auto.insert.encode())
            second.commit()


class DeafProxy:
    """A way to PostgreSQL on which no notification arrives, or which refuses LISTEN."""

    def __init__(self, target: int, *, refuses: bool) -> None:
        self._target = target
        self._refuses = refuses
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for work, *ends in ((self._upward, client, server), (self._downward, server, client)):
                    self._threads.append(threading.Thread(target=work, args=ends))
                    self._threads[-1].start()

    def _upward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data.replace(b"LISTEN ", b"LISTEM ") if self._refuses else data)
        self._hang_up(client, server)

    def _downward(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), server.makefile("rb") as messages:
            while head := messages.read(5):
                body = messages.read(int.from_bytes(head[1:], "big") - 4)
                if head[:1] != b"A":  # a notification
                    client.sendall(head + body)
        self._hang_up(client, server)

    @staticmethod
    def _hang_up(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything."""
        self._hang_up(self._server)
        self._server.close()
        self._hang_up(*self._sockets)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


@pytest.mark.parametrize("refuses", [False, True], ids=["deaf", "refused"])
def test_a_daemon_that_cannot_listen_polls_if_all_gates_are_set_closed(
    database: Database,
    postgres: EmbeddedPostgres,
    installed: Callable[..., None],
    daemons: Callable[..., Daemon],
    redis_url: str,
    refuses: bool,
) -> None:
    database.run("create table job_queue (id int)")
    watched = {"tables": [{"table": "job_queue", "on": ["insert"]}]}
    settings = {"task": "t", "gate": "closed", "sweep": 0, "window": 0.01, "ready": "select false"}
    installed(database, {"routes": {"dispatch": {**settings, **watched}}})
    proxy = DeafProxy(postgres.port, refuses=refuses)
    try:
        dsn = psycopg.conninfo.make_conninfo(
            database.dsn, port=proxy.port, sslmode="disable", gssencmode="disable"
        )
        daemon = daemons(dsn, redis_url)
        assert daemon.wait_for("listener.connected")["mode"] == "poll"
        daemon.wait_for("dispatch.published")  # the first poll has nothing to compare with
        with database.connect(autocommit=False) as writer:
            writer.execute("insert into job_queue values (1)")
            daemon.wait_for("dispatch.published", 2)
            writer.commit()
            daemon.wait_for("dispatch.published", 3)
        # writers that notify again need a listener
        database.run("update pgreact.route set gate = 'auto'")
        assert "no longer set closed" in daemon.wait_for("leader.lost")["reason"]
        assert daemon.stop() == 0
    finally:
        proxy.close()
