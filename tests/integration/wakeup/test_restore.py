"""Dumps and restores: what is restored, what is left behind, and that one ``apply`` repairs it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.signal_listener import SignalListener

PROGRAMS = servers.postgres_binaries(18)
TABLES = ("create table jobs (id int primary key)", "create table orders (id int primary key)")
OURS = """
    select array_agg(tgrelid::regclass || '.' || tgname order by tgrelid::regclass::text, tgname)
    from pg_trigger where tgname ~ '^pgreact_([1-9]|outbox)'"""
TRIGGERS = [
    "jobs.pgreact_1_insert",
    "orders.pgreact_2_insert",
    "orders.pgreact_outbox_1beef8d35c1d_delete",
]
OUTBOX = '[[outbox]]\ntable = "orders"\nenqueue = "proj.changed"\non = ["delete"]\n'
PGREACTS_OWN = (
    "select string_agg(format('pgreact.%I', tablename), ', ') from pg_tables where schemaname = 'pgreact'"
)


def routes(**tables: str) -> str:
    """Return a file whose routes watch one table each, then the outbox."""
    return OUTBOX + "".join(
        f'[routes.{name}]\ntask = "proj.{name}"\ntables = [{{ table = "{table}", on = ["insert"] }}]\n'
        for name, table in tables.items()
    )


FILE = routes(work="jobs", sell="orders")  # these get the ids 1 and 2
OTHER = routes(more="orders", sell="jobs", work="orders")  # the same names, other ids, other tables


@pytest.fixture
def source(database: Database) -> Database:
    """A database with the configuration ``FILE``."""
    if not (PROGRAMS / "pg_dump").exists():
        pytest.skip(f"no pg_dump in {PROGRAMS}")
    database.run(*TABLES)
    write(FILE)
    apply(database)
    return database


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A second database."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield Database(postgres.dsn(dbname=name))
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def target(empty: Database) -> Database:
    """Another database, with a configuration of its own."""
    empty.run(*TABLES)
    write(OTHER)
    apply(empty)
    write(FILE)
    return empty


@pytest.fixture
def restore(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Dumps one database into another."""

    def run(source: Database, target: Database, *options: str) -> "subprocess.CompletedProcess[str]":
        dump = tmp_path / "dump"
        subprocess.run([PROGRAMS / "pg_dump", "-Fc", "-f", dump, source.dsn], check=True)
        return subprocess.run(
            [PROGRAMS / "pg_restore", *options, "-d", target.dsn, dump],
            check=False,
            capture_output=True,
            text=True,
        )

    return run


Restore = Callable[..., "subprocess.CompletedProcess[str]"]


def sound(database: Database) -> bool:
    """Return whether all triggers and gates stand, and no others."""
    found = json.loads(pgreact("status", "--json", dsn=database.dsn).out)
    tables = [table for route in found["routes"] for table in route["tables"]]
    states = {row["trigger"] for row in (*tables, *found["queue"]["triggers"], *found["queue"]["outbox"])}
    return states == {"ok"} and not found["orphans"]


def check_that_it_works(database: Database) -> None:
    """Make sure that each table signals its route and no other, and that a new route can be made."""
    assert apply(database) == "Nothing to change.\n"
    assert sound(database)
    assert database.value(OURS) == TRIGGERS
    with SignalListener(database) as ear, database.connect() as writer:
        expected = {
            "insert into jobs values (1)": ["work"],
            "insert into orders values (1)": ["sell"],
            "delete from orders": ["pgreact.queue"],
        }
        assert ear.after(writer, *expected) == expected
    write(FILE + '[routes.third]\ntask = "proj.third"\n')
    assert apply(database) == "+ route third: calls proj.third\n"


def test_a_dump_restores_to_what_it_was(source: Database, empty: Database, restore: Restore) -> None:
    done = restore(source, empty)
    assert (done.returncode, done.stderr) == (0, "")
    check_that_it_works(empty)


@pytest.mark.parametrize("options", [(), ("--disable-triggers",)])
def test_data_restored_over_other_routes_leave_triggers_that_apply_drops(
    source: Database, target: Database, restore: Restore, options: tuple[str, ...]
) -> None:
    target.run(f"truncate {target.value(PGREACTS_OWN)}")
    done = restore(source, target, "--data-only", *options)
    assert (done.returncode, done.stderr) == (0, "")
    said = pgreact("status", dsn=target.dsn)
    assert said.code == 1
    for line in (
        "trigger pgreact_1_insert on public.orders: orphaned, nothing attached it",
        "trigger pgreact_2_insert on public.jobs: orphaned, nothing attached it",
        "trigger pgreact_3_insert on public.orders: orphaned, nothing attached it",
        "sequence pgreact.gate_3: orphaned, no route has it",
    ):
        assert f'REPAIR   {line}: run "pgreact apply"\n' in said.out
    planned = apply(target, "--dry-run")
    assert planned.startswith("- trigger pgreact_2_insert on public.jobs: orphaned, nothing attached it\n")
    assert apply(target) == planned
    check_that_it_works(target)


def test_data_restored_with_triggers_off_get_the_gates_they_lack(
    source: Database, empty: Database, restore: Restore
) -> None:
    empty.run(*TABLES)
    write("")
    apply(empty)
    write(FILE)
    empty.run(f"truncate {empty.value(PGREACTS_OWN)}")
    assert (
        'relation "pgreact.gate_2" does not exist'
        in restore(source, empty, "--data-only", "--disable-triggers").stderr
    )
    said = pgreact("status", dsn=empty.dsn)
    assert 'REPAIR   route sell: the sequence of its gate is missing: run "pgreact apply"\n' in said.out
    out = apply(empty)
    assert out.startswith(
        "+ route sell: the sequence of its gate is missing\n"
        "+ route work: the sequence of its gate is missing\n"
    )
    check_that_it_works(empty)


@pytest.mark.parametrize("options", [("--clean",), ("--clean", "--if-exists")])
def test_a_restore_over_a_database_leaves_what_it_did_not_know(
    source: Database, target: Database, restore: Restore, options: tuple[str, ...]
) -> None:
    done = restore(source, target, *options)
    assert "cannot drop schema pgreact" in done.stderr  # the dump lacks gate_3
    assert not sound(target)
    assert apply(target) == "- sequence pgreact.gate_3: orphaned, no route has it\n"
    check_that_it_works(target)


def test_a_restore_of_the_tables_alone_is_mended(source: Database, restore: Restore) -> None:
    done = restore(source, source, "--clean", "-n", "public")
    assert (done.returncode, done.stderr) == (0, "")
    # their triggers came back with them, the tables are others
    assert not sound(source)
    out = apply(source)
    assert "orphaned" not in out
    assert "+ route work: insert on public.jobs\n" in out
    check_that_it_works(source)


def test_what_sql_attached_is_no_orphan(target: Database) -> None:
    write(OTHER)
    target.run(
        "insert into pgreact.route (name, task) values ('own', 'proj.own')",
        "select pgreact.attach('jobs', 'own', '{insert,truncate}')",
        "select pgreact.attach('jobs', enqueue => 'proj.own')",
    )
    assert apply(target) == "Nothing to change.\n"
    assert sound(target)


def test_a_gate_that_is_gone_is_made_again(source: Database) -> None:
    source.run("drop sequence pgreact.gate_1 cascade", "drop sequence pgreact.gate_0 cascade")
    assert not sound(source)
    assert apply(source) == (
        "+ route pgreact.queue: the sequence of its gate is missing\n"
        "+ route work: the sequence of its gate is missing\n"
        "~ route work: insert on public.jobs\n"
        "~ queue: built-in route, lane and triggers\n"
    )
    check_that_it_works(source)


def test_a_route_may_be_made_where_its_sequence_was_left_behind(source: Database) -> None:
    source.run(
        "create sequence pgreact.gate_3",
        "insert into pgreact.route (name, task) values ('third', 'proj.third')",
    )
    assert source.value("select id from pgreact.route where name = 'third'") == 3
    assert source.value("select has_sequence_privilege('pg_monitor', 'pgreact.gate_3', 'usage')")
