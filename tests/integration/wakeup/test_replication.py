"""Rows that logical replication applies: they signal and enqueue, before and after a repair."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.signal_listener import SignalListener

FILE = """
[routes.always]
task = "proj.t"
tables = [{ table = "orders", on = ["insert", "update", "delete", "truncate"], always = true }]
[routes.origin]
task = "proj.t"
tables = [{ table = "orders", on = ["insert"] }]
[[outbox]]
table = "orders"
enqueue = "proj.changed"
always = true
"""

ORDERS = (
    "create table orders (id bigint primary key, status text) partition by range (id)",
    "create table orders_1 partition of orders for values from (0) to (1000)",
)
JOBS = "select array_agg(kwargs ->> 'operation' order by id) from pgreact.queue"


@pytest.fixture
def base(each_database: Database) -> Database:
    """A database with the configuration ``FILE``, on the oldest and on the newest server."""
    each_database.run(*ORDERS)
    write(FILE)
    apply(each_database)
    return each_database


@pytest.fixture(scope="module")
def publisher() -> Iterator[EmbeddedPostgres]:
    """A server that logical replication can read from."""
    with servers.Postgres(bindir=servers.postgres_binaries(18), settings={"wal_level": "logical"}) as server:
        yield server


@pytest.fixture
def source(base: Database, publisher: EmbeddedPostgres) -> Iterator[Database]:
    """A database whose ``orders`` are replicated to ``base``."""
    name = base.value("select current_database()")
    with psycopg.connect(publisher.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}")
    source = Database(publisher.dsn(dbname=name))
    source.run(*ORDERS, "create publication p for table orders with (publish_via_partition_root = true)")
    with base.connect() as connection:
        connection.execute(
            psycopg.sql.SQL("create subscription {} connection {} publication p").format(
                psycopg.sql.Identifier(name), source.dsn
            )
        )
    base.until("select bool_and(srsubstate = 'r') from pg_subscription_rel")
    yield source
    base.run(f"drop subscription {name}")
    with psycopg.connect(publisher.dsn(), autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


def replica(base: Database) -> "psycopg.Connection[tuple[Any, ...]]":
    """Open a session that writes as an apply worker does."""
    connection = base.connect()
    connection.execute("set session_replication_role = replica")
    return connection


def states(base: Database) -> set[str]:
    """Return the states of the triggers that are not ok, from ``pgreact status``."""
    found = pgreact("status", "--json", dsn=base.dsn)
    status = json.loads(found.out)
    tables = [table for route in status["routes"] for table in route["tables"]]
    return {row["trigger"] for row in (*tables, *status["queue"]["triggers"], *status["queue"]["outbox"])}


def test_rows_that_a_subscription_applies_signal_and_enqueue(base: Database, source: Database) -> None:
    with base.connect() as ear:
        ear.execute("listen pgreact")
        routes = dict(ear.execute("select id::text, name from pgreact.route").fetchall())
        source.run("insert into orders values (1, 'new')")
        # without a notification by the test: the apply worker wakes the listeners
        heard = {routes[notice.payload] for notice in ear.notifies(timeout=20, stop_after=2)}
        assert heard == {"always", "pgreact.queue"}
    with SignalListener(base) as ear:
        for statement in ("update orders set status = 'x'", "delete from orders", "truncate orders"):
            jobs = base.value("select count(*) from pgreact.queue")
            source.run("insert into orders values (2, 'y')", statement)
            change = statement.split(maxsplit=1)[0]
            if change == "truncate":
                base.until("select not exists (select from orders)")
            else:
                base.until(f"select count(*) > {jobs + 1} from pgreact.queue")
            assert set(ear.signalled()) == {"always", "pgreact.queue"}, statement
            source.run("delete from orders")
            base.until("select not exists (select from orders)")
            ear.signalled()
    assert base.value(JOBS)[:3] == ["insert", "insert", "update"]


def test_a_replicated_job_of_an_outbox_wakes_the_queue(base: Database) -> None:
    with SignalListener(base) as ear, replica(base) as worker:
        expected = {
            "insert into orders values (1, 'new')": ["always", "pgreact.queue"],
            "update orders set status = 'x'": ["always", "pgreact.queue"],
            "delete from orders": ["always", "pgreact.queue"],
            "truncate orders": ["always"],
        }
        assert ear.after(worker, *expected) == expected
    assert base.value(JOBS) == ["insert", "update", "delete"]


def test_always_is_kept_by_every_way_of_making_a_trigger_anew(base: Database) -> None:
    base.run(
        "update pgreact.route set gate = 'open' where name = 'always'",
        "create table orders_2 partition of orders for values from (1000) to (2000)",
        "create table orders_3 (id bigint not null primary key, status text)",
        "alter table orders attach partition orders_3 for values from (2000) to (3000)",
    )
    with SignalListener(base) as ear, replica(base) as worker:
        for number in (1, 1001, 2001):
            statement = f"insert into orders values ({number})"
            assert ear.after(worker, statement) == {statement: ["always", "pgreact.queue"]}
    write(FILE.replace("[routes.always]", '[routes.always]\ngate = "open"'))
    # truncate triggers are not cloned; the other triggers are clones of the parent's
    assert apply(base) == "~ route always: truncate on public.orders, always\n"
    assert states(base) == {"ok"}


@pytest.mark.parametrize(
    ("harm", "state", "mended"),
    [
        ("alter table orders enable trigger pgreact_1_insert", "fires only for origin",
         "~ route always: insert on public.orders, always\n"),
        ("alter table orders_1 enable trigger pgreact_1_insert", "fires only for origin on a partition",
         "~ route always: insert on public.orders, always\n"),
        ("alter table orders enable always trigger pgreact_2_insert", "fires always",
         "~ route origin: insert on public.orders\n"),
        ("alter table orders_1 enable trigger pgreact_1_truncate", "fires only for origin on a partition",
         "~ route always: truncate on public.orders, always\n"),
        ("alter table pgreact.queue enable trigger pgreact_0_insert", "fires only for origin",
         "~ queue: built-in route, lane and triggers\n"),
        ("alter table orders disable trigger all", "disabled", None),
        # as "pg_restore --data-only --disable-triggers" leaves it
        ("alter table orders disable trigger all; alter table orders enable trigger all",
         "fires only for origin", None),
        ("update pgreact.watched set always = false where event = 'delete'", "fires always", None),
    ],
)  # fmt: skip
def test_a_trigger_that_fires_otherwise_than_set_is_reported_and_repaired(
    base: Database, harm: str, state: str, mended: str | None
) -> None:
    assert states(base) == {"ok"}
    base.run(*harm.split("; "))
    assert state in states(base)
    assert mended in (apply(base), None)
    assert states(base) == {"ok"}
    assert apply(base) == "Nothing to change.\n"


def test_the_file_turns_always_on_and_off(base: Database) -> None:
    write(FILE.replace(", always = true", "").replace("always = true", ""))
    assert apply(base) == (
        "~ route always: insert, update, delete, truncate on public.orders\n"
        "~ outbox: insert, update, delete on public.orders enqueues proj.changed\n"
    )
    with SignalListener(base) as ear, replica(base) as worker:
        assert ear.after(worker, "insert into orders values (1)") == {"insert into orders values (1)": []}
    write(FILE)
    assert apply(base) == (
        "~ route always: insert, update, delete, truncate on public.orders, always\n"
        "~ outbox: insert, update, delete on public.orders, always enqueues proj.changed\n"
    )
    assert states(base) == {"ok"}
    base.run(pgreact("apply", "--sql", "--since", "4").out)
    assert apply(base) == "Nothing to change.\n"
    shown = pgreact("status", dsn=base.dsn).out
    assert "  truncate on public.orders, always: trigger ok" in shown
    assert "  delete on public.orders, always enqueues proj.changed: trigger ok" in shown


def test_attaching_again_with_always_takes_no_lock(base: Database) -> None:
    call = "select pgreact.attach('orders', 'always', '{insert,update,delete,truncate}', always => true)"
    outbox = "select pgreact.attach('orders', enqueue => 'proj.changed', always => true)"
    with base.connect() as busy, busy.transaction():
        busy.execute("lock table orders, orders_1 in row exclusive mode")
        with base.connect() as admin:
            admin.execute("set lock_timeout = '1ms'")
            admin.execute(call)
            admin.execute(outbox)
    for wrong, error in (
        (call.replace("=> true", "=> null"), psycopg.errors.NotNullViolation),
        (
            call.replace("orders", "orders_1").replace("true", "false"),
            psycopg.errors.ObjectNotInPrerequisiteState,
        ),
        (
            outbox.replace("orders", "orders_1").replace("true", "false"),
            psycopg.errors.ObjectNotInPrerequisiteState,
        ),
    ):
        with base.connect() as admin, pytest.raises(error, match="always"):
            admin.execute(wrong.encode())
    assert states(base) == {"ok"}
