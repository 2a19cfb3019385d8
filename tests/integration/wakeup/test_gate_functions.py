"""The basis of the gate: the locks of a sequence, and when two snapshots differ; and its functions."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.wakeup.gate import CLOSED, OPEN
from tests import servers
from tests.harness import Database, eventually, fresh_database
from tests.signal_listener import SignalListener

Connection = psycopg.Connection[tuple[Any, ...]]
WATCHED = {"table": "job_queue", "on": ["insert"]}


@pytest.fixture(scope="module", params=[14, 18])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A server that takes prepared transactions, and ends none of its own."""
    servers.require_or_skip(f"pg{request.param}")
    settings = {"max_prepared_transactions": "5", "autovacuum": "off"}
    with servers.Postgres(bindir=servers.postgres_binaries(request.param), settings=settings) as started:
        yield started


@pytest.fixture
def base(server: EmbeddedPostgres, installed: Callable[..., None]) -> Iterator[Database]:
    """A database with one route of one table."""
    with fresh_database(server) as database:
        database.run("create table job_queue (id int)")
        installed(database, {"routes": {"dispatch": {"task": "t", "tables": [WATCHED]}}})
        yield database


@pytest.fixture
def leader(base: Database) -> Iterator[Connection]:
    """The session that leads."""
    with base.connect() as connection:
        connection.execute("select pgreact.acquire_lock('leader', '1 s')")
        yield connection


@pytest.fixture
def writer(base: Database) -> Iterator[Connection]:
    with base.connect() as connection:
        yield connection


def poll(connection: Connection) -> tuple[int, list[str]]:
    """Return S of the one route, and the holders of its lock."""
    row = connection.execute("select * from pgreact.poll_gates('{1}')").fetchone()
    assert row is not None
    return row[0]["1"], row[1].get("1", [])


def set_gate(connection: Connection, value: int) -> bool:
    """Set S; return whether no transaction that wrote ended meanwhile."""
    row = connection.execute("select undisturbed from pgreact.set_gates('{1}', %s)", [value]).fetchone()
    assert row is not None
    return bool(row[0])


# ---- the holders ---------------------------------------------------------------------------------------


def test_a_writer_is_one_holder_from_its_first_number_to_the_end_of_its_transaction(
    leader: Connection, writer: Connection
) -> None:
    writer.execute("begin; savepoint s; insert into job_queue values (1)")
    value, found = poll(leader)
    assert (value, len(found)) == (1, 1)
    writer.execute("rollback to savepoint s")
    assert poll(leader) == (1, found)
    writer.execute("insert into job_queue values (2); savepoint s; insert into job_queue values (3)")
    assert poll(leader) == (3, found)
    writer.execute("commit")
    assert poll(leader) == (3, [])


def test_a_prepared_writer_stays_the_same_holder_after_its_session_ends(
    base: Database, leader: Connection
) -> None:
    set_gate(leader, CLOSED)
    with base.connect() as writer:
        writer.execute("begin; insert into job_queue values (1)")
        _, found = poll(leader)
        writer.execute("prepare transaction 'x'")
        assert poll(leader) == (CLOSED + 1, found)
        # the session's next transaction is another holder
        writer.execute("begin; insert into job_queue values (2)")
        assert len(set(poll(leader)[1])) == 2
        writer.execute("commit")
    eventually(lambda: poll(leader)[1] == found, "the end of the session")
    leader.execute("commit prepared 'x'")
    assert poll(leader) == (CLOSED + 2, [])


def test_a_session_that_polls_or_sets_is_no_holder_afterwards(base: Database, leader: Connection) -> None:
    with base.connect() as other, other.transaction():
        poll(other)
        assert poll(leader)[1] != []  # but to another poll
        assert poll(other)[1] == []
    assert set_gate(leader, OPEN)
    assert poll(leader) == (OPEN, [])


def test_a_dump_is_no_writer(base: Database, leader: Connection) -> None:
    # the newest dumps all servers
    found = servers.postgres_binaries(18) / "pg_dump"
    if not found.exists():
        pytest.skip(f"no {found}")
    # it has read the sequences before this lock, which stays granted
    leader.execute("select lo_from_bytea(0, repeat('x', 10000000)::bytea)")
    with subprocess.Popen([found, base.dsn], stdout=subprocess.PIPE) as dump:
        assert dump.stdout is not None
        assert any(b"SEQUENCE SET" in line for line in iter(dump.stdout.readline, b""))
        base.until("select exists (select from pg_stat_activity where application_name = 'pg_dump')")
        assert poll(leader)[1] == []
        rest = dump.stdout.read()
    assert b"SELECT pg_catalog.setval('pgreact.gate_1'" in rest
    assert b"nextval('pgreact.gate_1'::regclass) < '4611686018427387904'::bigint" in rest


# ---- setting S ---------------------------------------------------------------------------------------------


def test_only_the_leader_sets_gates(base: Database, leader: Connection) -> None:
    set_gate(leader, CLOSED)
    with base.connect() as deposed:
        for take in ("select 1", "select pg_advisory_lock_shared(1885827685, 1)", "begin"):
            deposed.execute(take.encode())
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="only the leader"):
                set_gate(deposed, OPEN)
            deposed.execute("rollback")
    assert poll(leader) == (CLOSED, [])


def test_the_sequence_value_tells_writers_whether_to_notify(
    base: Database, leader: Connection, writer: Connection
) -> None:
    insert = "insert into job_queue values (1)"
    with SignalListener(base) as ear:
        for value, heard in (
            (CLOSED, []),
            (OPEN, ["dispatch"]),
            (CLOSED - 1, []),
            (CLOSED - 2, ["dispatch"]),
        ):
            set_gate(leader, value)
            assert ear.after(writer, insert) == {insert: heard}


def test_setting_a_gate_tells_what_was_before(leader: Connection, writer: Connection) -> None:
    set_gate(leader, CLOSED)
    writer.execute("insert into job_queue values (1)")
    writer.execute("begin; insert into job_queue values (2)")
    row = leader.execute("select * from pgreact.set_gates('{1,99}', %s)", [OPEN]).fetchone()
    assert row is not None
    values, holders, undisturbed = row
    assert values == {"1": CLOSED + 2, "99": 0}
    assert [len(found) for found in holders.values()] == [1]
    assert undisturbed
    assert poll(leader)[0] == OPEN


HALT = """
create function public.halt() returns void language plpgsql as $$
begin
    perform pg_advisory_lock_shared(77, 1), pg_advisory_unlock_shared(77, 1);
end
$$
"""


@pytest.mark.parametrize(
    ("before", "meanwhile", "undisturbed"),
    [
        ("", "", True),
        ("", "select 1", True),
        ("", "begin; insert into job_queue values (1)", True),
        ("begin; insert into job_queue values (1)", "savepoint s", True),
        ("begin; insert into job_queue values (1)", "prepare transaction 'x'", True),
        ("begin; insert into job_queue values (1)", "commit", False),
        ("begin; insert into job_queue values (1)", "rollback", False),
        ("begin; insert into job_queue values (1); prepare transaction 'x'", "commit prepared 'x'", False),
        ("", "insert into job_queue values (1)", False),
        ("", "select pgreact.signal('dispatch')", False),
        ("", "truncate job_queue", False),
    ],
)
def test_a_writer_that_ends_while_a_gate_is_set_is_noticed(
    base: Database, leader: Connection, writer: Connection, before: str, meanwhile: str, undisturbed: bool
) -> None:
    set_gate(leader, CLOSED)
    leader.execute("select pgreact.signal('dispatch')")  # the first number is logged, and needs an id anyway
    step = "perform setval("
    text = base.value("select pg_get_functiondef('pgreact.set_gates'::regproc)")
    base.run(HALT, text.replace(step, f"perform public.halt(); {step}"))
    if before:
        writer.execute(before.encode())
    said: list[bool] = []
    with base.connect() as brake:
        brake.execute("select pg_advisory_lock(77, 1)")
        setting = threading.Thread(target=lambda: said.append(set_gate(leader, OPEN)))
        setting.start()
        base.until("select exists (select from pg_locks where classid = 77 and not granted)")
        if meanwhile:
            writer.execute(meanwhile.encode())
    setting.join()
    assert said == [undisturbed]
    writer.execute("rollback")
    for (name,) in leader.execute("select gid from pg_prepared_xacts").fetchall():
        leader.execute(f"rollback prepared '{name}'".encode())


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_at_an_isolation_level_with_one_snapshot_every_reading_counts_as_disturbed(
    leader: Connection, level: str
) -> None:
    assert set_gate(leader, OPEN)
    leader.execute(f"set default_transaction_isolation = '{level}'".encode())
    assert not set_gate(leader, OPEN)


# ---- routes that go ----------------------------------------------------------------------------------------


def test_an_uncommitted_deletion_blocks_no_session(
    base: Database, leader: Connection, writer: Connection
) -> None:
    leader.execute("set statement_timeout = '2s'")
    writer.execute("begin; delete from pgreact.route")
    set_gate(leader, CLOSED)
    assert poll(leader) == (CLOSED, [])
    writer.execute("commit")
    assert poll(leader) == (0, [])
    set_gate(leader, OPEN)
    assert base.value("select to_regclass('pgreact.gate_1') is null")


def test_a_sequence_dropped_while_a_poll_waits_for_it_is_gone(
    base: Database, leader: Connection, writer: Connection
) -> None:
    seen: list[tuple[int, list[str]]] = []
    writer.execute("begin; drop sequence pgreact.gate_1 cascade")
    polling = threading.Thread(target=lambda: seen.append(poll(leader)))
    polling.start()
    base.until("select exists (select from pg_locks where relation is not null and not granted)")
    writer.execute("commit")
    polling.join()
    assert seen == [(0, [])]


# ---- signal by hand ----------------------------------------------------------------------------------------


def signals(ear: SignalListener, connection: Connection) -> list[str]:
    """Signal by hand and commit what is open; return what was heard."""
    connection.execute("select pgreact.signal('dispatch')")
    connection.execute("commit")
    return ear.signalled()


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_signal_by_hand_believes_s_and_no_old_snapshot(
    base: Database, leader: Connection, writer: Connection, level: str
) -> None:
    def begin() -> None:
        writer.execute(f"begin isolation level {level}; select 1".encode())

    with SignalListener(base) as ear:
        base.run("update pgreact.route set gate = 'closed'")
        ear.signalled()
        set_gate(leader, CLOSED)  # as a leader does
        begin()
        assert signals(ear, writer) == []
        begin()
        base.run("update pgreact.route set gate = 'auto'")
        set_gate(leader, OPEN)
        ear.signalled()
        assert signals(ear, writer) == ["dispatch"]
        begin()
        set_gate(leader, CLOSED)
        assert signals(ear, writer) == []


def test_a_signal_by_hand_of_a_closed_route_is_silent_before_anybody_leads(
    base: Database, writer: Connection
) -> None:
    base.run("update pgreact.route set gate = 'closed'")
    with SignalListener(base) as ear:
        writer.execute("begin; select pgreact.signal('dispatch')")
        writer.execute("prepare transaction 'y'")
        writer.execute("commit prepared 'y'")
        assert ear.signalled() == []
