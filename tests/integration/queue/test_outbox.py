"""A table as an outbox: committed changes become jobs, in order for each row, and writers never notice."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgreact.postgres.queries import query
from tests.command import pgreact
from tests.harness import Database

Install = Callable[..., None]
Writer = psycopg.Connection[tuple[Any, ...]]

TASK = "proj.order_changed"


@pytest.fixture
def base(each_database: Database, installed: Install) -> Database:
    """A database with a table, on the oldest and the newest server."""
    installed(each_database, {"lanes": {"mail": {}}})
    each_database.run("create table orders (id bigint primary key, status text)")
    return each_database


@pytest.fixture
def writer(base: Database) -> Iterator[Writer]:
    """A role with no rights but on its own tables."""
    base.run(
        "drop role if exists writer",
        "create role writer",
        "grant select, insert, update, delete, truncate on orders to writer",
    )
    with base.connect() as connection:
        connection.execute("set role writer")
        yield connection
    base.run("drop owned by writer", "drop role writer")


def attach(base: Database, table: str, events: str | None = None, **more: str | None) -> None:
    """Let a table enqueue ``TASK``."""
    given: dict[str, Any] = {"enqueue": TASK, **({"events": events} if events else {}), **more}
    names = "".join(f", {name} => %({name})s" for name in given)
    with base.connect() as connection:
        connection.execute(f"select pgreact.attach(%(table)s{names})".encode(), {"table": table, **given})


def jobs(base: Database) -> list[tuple[Any, ...]]:
    """Return operation, key, old key and job key of each job, in order, and forget them."""
    with base.connect() as connection:
        rows = connection.execute("delete from pgreact.queue returning id, kwargs, key").fetchall()
    return [
        (kwargs["operation"], kwargs["key"], kwargs.get("old_key"), key)
        for _id, kwargs, key in sorted(rows, key=lambda row: row[0])
    ]


def health(base: Database) -> dict[tuple[str, str], str]:
    """Return what ``pgreact status`` shows of each trigger."""
    with base.connect() as connection:
        rows = connection.execute(query("queue_outbox").encode()).fetchall()
    return {(row[1], row[2]): row[8] for row in rows}


def triggers(base: Database) -> list[tuple[Any, ...]]:
    """Return all triggers of the outbox, with their identity."""
    with base.connect() as connection:
        return connection.execute(
            "select tgrelid::regclass::text, tgname, oid, xmin::text from pg_trigger "
            "where tgname ~ '^pgreact_outbox_' order by 1, 2"
        ).fetchall()


# ---- what a change enqueues --------------------------------------------------------------------------------


def test_each_committed_change_is_a_job_that_names_its_row(base: Database, writer: Writer) -> None:
    attach(base, "orders")
    attach(base, "orders", "{truncate}")
    writer.execute("insert into orders values (1), (2)")
    writer.execute("update orders set status = 'paid' where id = 1")
    writer.execute("update orders set id = 3 where id = 2")
    writer.execute("delete from orders where id = 1")
    writer.execute("update orders set status = 'x' where id = 99")
    writer.execute("truncate orders")
    with writer.transaction(force_rollback=True):
        writer.execute("insert into orders values (4)")
    assert jobs(base) == [
        ("insert", {"id": 1}, None, "public.orders:[1]"),
        ("insert", {"id": 2}, None, "public.orders:[2]"),
        ("update", {"id": 1}, None, "public.orders:[1]"),
        ("update", {"id": 3}, {"id": 2}, "public.orders:[3]"),
        ("delete", {"id": 1}, None, "public.orders:[1]"),
        ("truncate", None, None, "public.orders"),
    ]


def test_the_job_is_of_its_task_and_lane_and_names_the_table(base: Database, writer: Writer) -> None:
    attach(base, "orders", lane="mail")
    writer.execute("insert into orders values (1)")
    with base.connect() as connection:
        row = connection.execute("select task, lane, state, args, kwargs from pgreact.queue").fetchone()
    kwargs = {"table": "public.orders", "operation": "insert", "key": {"id": 1}}
    assert row == (TASK, "mail", "ready", [], kwargs)


def test_jobs_of_one_row_are_claimed_one_at_a_time_and_in_order(base: Database) -> None:
    attach(base, "orders", lane="default")
    base.run(
        "insert into orders values (1), (2)",
        "update orders set status = 'a'",
        "update orders set status = 'b'",
    )
    claimed = []
    for _ in range(3):
        for job in base.value("select pgreact.claim(10)->'jobs'"):
            kwargs = json.loads(job["kwargs"])
            claimed.append((kwargs["key"]["id"], kwargs["operation"]))
            base.value("select pgreact.settle(%s, %s, 'done')", job["id"], job["claim_id"])
    assert sorted(claimed[:2]) == [(1, "insert"), (2, "insert")]
    assert [operation for row, operation in claimed if row == 1] == ["insert", "update", "update"]
    assert len(claimed) == 6


@pytest.mark.parametrize(
    ("condition", "operations"),
    [
        ("new.status = 'paid' -- only then", ["update"]),
        ("new.status is distinct from 'paid'", ["insert"]),
    ],
)
def test_a_condition_chooses(base: Database, writer: Writer, condition: str, operations: list[str]) -> None:
    attach(base, "orders", "{insert,update}", condition=condition)
    writer.execute("insert into orders values (1)")
    writer.execute("update orders set status = 'paid'")
    writer.execute("delete from orders")
    assert [job[0] for job in jobs(base)] == operations


def test_two_tasks_may_hear_of_one_table(base: Database, writer: Writer) -> None:
    attach(base, "orders", "{insert}")
    attach(base, "orders", "{insert}", enqueue="proj." + "x" * 250)
    writer.execute("insert into orders values (1)")
    assert base.value("select count(distinct task) from pgreact.queue") == 2
    base.run("select pgreact.detach('orders', enqueue => 'proj.order_changed')")
    writer.execute("insert into orders values (2)")
    assert base.value("select array_agg(length(task)) from pgreact.queue where id > 2") == [255]


def test_an_update_counts_only_if_it_changes_one_of_the_columns(base: Database, writer: Writer) -> None:
    base.run("alter table orders add total numeric, add note json, add place point")
    base.run("grant insert, update on orders to writer")
    attach(base, "orders", changed="{status,total}")
    writer.execute("insert into orders values (1, 'new', 1.0, '{}')")
    for change in (
        "status = status",  # a save() that changes nothing
        "note = '[]', place = '(1,2)'",
        "status = 'paid', note = null",
        "status = 'paid'",
        "status = null",
        "status = null",
        "total = 2",
    ):
        writer.execute(f"update orders set {change}".encode())
    writer.execute("delete from orders")
    assert [job[0] for job in jobs(base)] == ["insert", "update", "update", "update", "delete"]
    assert set(health(base).values()) == {"ok"}


def test_the_columns_may_be_of_any_type_and_have_any_name(base: Database, writer: Writer) -> None:
    base.run(
        "create type pair as (a int, b json)",
        """create table odd (id int primary key, "What?" json, p point, pair pair, big text)""",
        "grant insert, update, select on odd to writer",
        "create function loud(pair, pair) returns boolean language plpgsql as "
        "'begin raise exception ''a function of a user ran''; end'",
        "create operator = (leftarg = pair, rightarg = pair, function = loud)",
        "create operator <> (leftarg = pair, rightarg = pair, function = loud)",
    )
    attach(base, "odd", "{update}", changed='{"What?",p,pair,big}', condition="new.id > 0 -- all")
    writer.execute("insert into odd values (1, '{}', '(1,2)', '(1,{})', repeat('ä', 99999))")
    same = "\"What?\" = '{}', p = '(1,2)', pair = '(1,{})', big = repeat('ä', 99999)"
    writer.execute(f"update odd set {same}".encode())
    assert jobs(base) == []
    for change in (
        "\"What?\" = '[]'",
        "p = '(1,3)'",
        "pair = '(1,[])'",
        "big = repeat('b', 99999)",
    ):
        writer.execute(f"update odd set {change}".encode())
        assert [job[0] for job in jobs(base)] == ["update"]


def test_the_columns_are_those_of_partitions_and_child_tables_too(base: Database, writer: Writer) -> None:
    base.run(
        "create table parts (id int primary key, status text) partition by range (id)",
        "create table low (status text, id int not null)",
        "alter table parts attach partition low for values from (0) to (100)",
        "create table child (primary key (id)) inherits (orders)",
        "grant all on parts, child, orders to writer",
    )
    for table in ("parts", "orders"):
        attach(base, table, "{update}", changed="{status}")
    for table in ("parts", "child"):
        writer.execute(f"insert into {table} values (1, 'a')".encode())
        writer.execute(f"update {table} set status = 'a'".encode())
        assert jobs(base) == []
        writer.execute(f"update {table} set status = 'b'".encode())
        assert [job[0] for job in jobs(base)] == ["update"]


@pytest.mark.parametrize(
    ("events", "changed", "message", "hint"),
    [
        (
            "{update}",
            "{statuss}",
            'orders has no column statuss, which "changed" names',
            "It has id, status.",
        ),
        ("{update}", "{null}", "has no column null", "It has"),
        ("{update}", "{ctid}", "has no column ctid", "It has"),
        ("{insert,delete}", "{status}", "it needs a column, and the event update", "Like events"),
        ("{update}", "{}", "it needs a column, and the event update", "Like events"),
    ],
)
def test_unknown_columns_are_refused(
    base: Database, events: str, changed: str, message: str, hint: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        attach(base, "orders", events, changed=changed)
    assert message in (caught.value.diag.message_primary or "")
    assert hint in (caught.value.diag.message_hint or "")
    assert triggers(base) == []


def test_attached_again_with_other_columns_they_count(base: Database, writer: Writer) -> None:
    attach(base, "orders", changed="{status}")
    before = triggers(base)
    attach(base, "orders", changed="{status}")
    assert triggers(base) == before
    attach(base, "orders", changed="{id}")
    assert len(set(triggers(base)) - set(before)) == 1  # that of updates alone
    writer.execute("insert into orders values (1, 'a')")
    writer.execute("update orders set status = 'b'")
    assert [job[0] for job in jobs(base)] == ["insert"]
    attach(base, "orders", changed="{status}")
    base.run("alter table orders rename column status to state")
    assert health(base)["public.orders", "update"] == "condition changed"


def test_a_key_of_several_columns_and_odd_types(base: Database) -> None:
    base.run(
        "create type mood as enum ('good', 'bad')",
        "create domain number as bigint",
        'create table odd (m mood, n number, "When?" timestamptz, u uuid, t text, big text, '
        'primary key (m, n, "When?", u, t))',
    )
    attach(base, "odd")
    nil = "00000000-0000-0000-0000-000000000000"
    insert = f"insert into odd values ('good', 5, '2024-01-01 00:00Z', '{nil}', 'it''s \"x\"')"
    with base.connect() as connection:
        connection.execute("set timezone = 'Asia/Tokyo'")
        connection.execute(insert.encode())
        connection.execute("set timezone = 'America/Lima'; set datestyle = 'German'")
        connection.execute("delete from odd")
    when = "2024-01-01T00:00:00+00:00"
    key = {"m": "good", "n": 5, "When?": when, "u": nil, "t": 'it\'s "x"'}
    name = f'public.odd:["good", 5, "{when}", "{nil}", "it\'s \\"x\\""]'
    assert jobs(base) == [("insert", key, None, name), ("delete", key, None, name)]


# of each type whose text depends on a setting, and of some others, a value
TYPES = {
    "bytea": r"'\x00ff41'",
    "interval": "'-1 mons 2 days -03:04:05.5'",
    "double precision": "0.1::float8 + 0.2::float8",
    "real": "1.1::float4 / 3",
    "numeric": "1.10",
    "money": "1234.56",
    "date": "'2024-02-03'",
    "timestamp": "'2024-02-03 04:05:06.789'",
    "timestamptz": "'2024-02-03 04:05:06+09'",
    "timetz": "'04:05:06+09'",
    "tstzrange": "'[2024-02-03 04:05:06+09,)'",
    "daterange": "'[2024-02-03,2024-03-04)'",
    "interval[]": "'{1 day,-2 hours}'",
    "double precision[]": "array[0.1::float8 + 0.2::float8]",
    "regclass": "'orders'",
    "boolean": "true",
    "jsonb": """'{"a": [1, 2.0]}'""",
    '"Our Float"': "0.1::float8 + 0.2::float8",
    "pair": r"row('2024-02-03', interval '-1 day', '\x00')::pair",
}
SETTINGS = {
    "bytea_output": ["hex", "escape"],
    "IntervalStyle": ["postgres", "postgres_verbose", "sql_standard", "iso_8601"],
    "extra_float_digits": ["-15", "0", "1", "3"],
    "quote_all_identifiers": ["on", "off"],
    "DateStyle": ["ISO, DMY", "German", "SQL, MDY", "Postgres, YMD"],
    "TimeZone": ["UTC", "Asia/Tokyo", "<x>-3:30y"],
    "lc_monetary": ["C", "C.UTF-8"],
    "standard_conforming_strings": ["on", "off"],
    "search_path": ["public", "pgreact, public", "public, pg_catalog"],
    "plpgsql.extra_errors": ["none", "all"],
    "array_nulls": ["on", "off"],
    "transform_null_equals": ["on", "off"],
    "default_transaction_isolation": ["read committed", "repeatable read", "serializable"],
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in SETTINGS.items()}))
@example(given_={key: values[-1] for key, values in SETTINGS.items()})
@example(given_={key: values[1] for key, values in SETTINGS.items()})
def test_a_rows_jobs_are_of_one_key_whatever_its_writers_set(base: Database, given_: dict[str, str]) -> None:
    def one_change(connection: Writer) -> list[tuple[Any, ...]]:
        for number in range(len(TYPES)):
            connection.execute(f"insert into public.t_{number} table public.source_{number}".encode())
            connection.execute(f"delete from public.t_{number}".encode())
        return jobs(base)

    with base.connect() as connection:
        if not connection.execute("select to_regclass('public.t_0')::oid").fetchall()[0][0]:
            connection.execute('create domain "Our Float" as float8')
            connection.execute("create type pair as (d date, i interval, b bytea)")
            for number, (type_, value) in enumerate(TYPES.items()):
                connection.execute(f"create table t_{number} (id {type_} primary key)".encode())
                connection.execute(f"create table source_{number} as select ({value})::{type_}".encode())
                attach(base, f"t_{number}")
        usual = one_change(connection)
        assert len(usual) == 2 * len(TYPES)
        assert [job[3] for job in usual[::2]] == [job[3] for job in usual[1::2]]
        for name, value in given_.items():
            connection.execute("select pg_catalog.set_config(%s, %s, false)", (name, value))
        assert one_change(connection) == usual


def test_a_long_key_is_shortened(base: Database) -> None:
    base.run("create table long (id text primary key)")
    attach(base, "long")
    base.run("insert into long select repeat(md5(g::text), 60) from generate_series(1, 2) g")
    first, second = jobs(base)
    assert len(first[1]["id"]) == 60 * 32
    assert first[3] != second[3]
    assert len(first[3]) == len("public.long:") + 64


# ---- nothing that happens later makes a writer fail --------------------------------------------------------


def test_a_lane_that_is_gone_does_not_stop_writers(base: Database, writer: Writer) -> None:
    attach(base, "orders", lane="mail")
    base.run("delete from pgreact.lane where name = 'mail'")
    writer.execute("insert into orders values (1)")
    assert base.value("select pgreact.claim(10)->'claimed'") == 1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("alter table orders rename id to number", {"number": 1}),
        ("alter table orders alter id type text", {"id": "1"}),
        ("alter table orders drop constraint orders_pkey", {"id": 1}),
        ("alter table orders drop column id; alter table orders add id bigint default 1", {"id": 1}),
        ("alter table orders drop column id; alter table orders add number bigint default 1", None),
        ("alter table orders rename to orders2; create view orders as select * from orders2", {"id": 1}),
    ],
)
def test_a_table_that_changes_does_not_stop_writers(base: Database, change: str, key: object) -> None:
    attach(base, "orders", "{insert}")
    base.run(*change.split("; "))
    columns = "status" if "add" in change else "id" if "rename id" not in change else "number"
    base.run(f"insert into orders ({columns}) values ('1')")
    ((operation, found, _old, name),) = jobs(base)
    assert (operation, found) == ("insert", key)
    assert name.startswith("public.orders")


def test_the_outbox_may_be_attached_while_it_is_written_in_the_same_transaction(base: Database) -> None:
    with base.connect() as connection, connection.transaction():
        connection.execute("create table new (id int primary key)")
        connection.execute("select pgreact.attach('new', enqueue => 't')")
        connection.execute("insert into new values (1)")
    assert len(jobs(base)) == 1


# ---- partitions --------------------------------------------------------------------------------------------


@pytest.fixture
def partitioned(base: Database) -> Database:
    """``parts`` with a partition ``low``, and below ``high`` a partition ``high_a``."""
    base.run(
        "create table parts (id int, status text, primary key (id, status)) partition by range (id)",
        "create table low partition of parts for values from (0) to (100)",
        "create table high partition of parts for values from (100) to (200) partition by list (status)",
        "create table high_a partition of high for values in ('a')",
    )
    return base


def test_a_change_in_a_partition_is_one_of_the_table(partitioned: Database) -> None:
    attach(partitioned, "parts")
    partitioned.run(
        "insert into parts values (1, 'a'), (101, 'a')",
        "update low set status = 'b'",
        "delete from high_a",
        "create table later partition of parts for values from (200) to (300)",
        "insert into later values (200, 'x')",
        "update parts set id = 5 where id = 200",
    )
    one, other = {"id": 1, "status": "a"}, {"id": 101, "status": "a"}
    assert jobs(partitioned) == [
        ("insert", one, None, 'public.parts:[1, "a"]'),
        ("insert", other, None, 'public.parts:[101, "a"]'),
        ("update", {"id": 1, "status": "b"}, one, 'public.parts:[1, "b"]'),
        ("delete", other, None, 'public.parts:[101, "a"]'),
        ("insert", {"id": 200, "status": "x"}, None, 'public.parts:[200, "x"]'),
        # a row that moves to another partition
        ("delete", {"id": 200, "status": "x"}, None, 'public.parts:[200, "x"]'),
        ("insert", {"id": 5, "status": "x"}, None, 'public.parts:[5, "x"]'),
    ]


def test_a_truncate_names_what_was_truncated(partitioned: Database) -> None:
    attach(partitioned, "parts", "{truncate}")
    partitioned.run("truncate low")
    assert jobs(partitioned) == [("truncate", None, None, "public.low")]
    partitioned.run("truncate parts")
    assert sorted(job[3] for job in jobs(partitioned)) == [
        "public.high",
        "public.high_a",
        "public.low",
        "public.parts",
    ]
    partitioned.run("create table later partition of parts for values from (200) to (300)")
    assert health(partitioned)["public.parts", "truncate"] == "missing on a partition"
    attach(partitioned, "parts", "{truncate}")
    assert health(partitioned) == {("public.parts", "truncate"): "ok"}


def test_partition_and_parent_can_both_be_attached_alike_only(partitioned: Database) -> None:
    attach(partitioned, "parts", "{insert}")
    attach(partitioned, "low", "{insert,delete}")
    partitioned.run("insert into low values (1, 'a')", "delete from parts")
    assert [job[3] for job in jobs(partitioned)] == ['public.parts:[1, "a"]', 'public.low:[1, "a"]']
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match=r"a parent of public\.low enqueues"
    ):
        attach(partitioned, "low", "{insert}", lane="mail")
    assert set(health(partitioned).values()) == {"ok"}


def test_a_trigger_disabled_on_one_partition_is_found_and_enabled(partitioned: Database) -> None:
    attach(partitioned, "parts", "{insert}")
    partitioned.run("alter table low disable trigger user")
    assert health(partitioned) == {("public.parts", "insert"): "disabled on a partition"}
    attach(partitioned, "parts", "{insert}")
    assert health(partitioned) == {("public.parts", "insert"): "ok"}


def test_triggers_of_a_parent_stay_when_its_partition_is_detached(partitioned: Database) -> None:
    attach(partitioned, "parts", "{truncate}")
    attach(partitioned, "low", "{truncate}")
    partitioned.run("select pgreact.detach('low', enqueue => 'proj.order_changed')")
    assert health(partitioned) == {("public.parts", "truncate"): "ok"}


@pytest.mark.parametrize("event", ["insert", "truncate"])
def test_detaching_the_outbox_leaves_no_trigger_on_any_partition(partitioned: Database, event: str) -> None:
    attach(partitioned, "parts", f"{{{event}}}")
    attach(partitioned, "orders", f"{{{event}}}")
    partitioned.run(
        "alter table parts detach partition low",
        "select pgreact.detach('parts', enqueue => 'proj.order_changed')",
    )
    names = [row[0] for row in triggers(partitioned)]
    assert names == ["orders"]
    assert health(partitioned) == {("public.orders", event): "ok"}


# ---- attach and detach -------------------------------------------------------------------------------------


def test_attaching_again_changes_nothing_and_takes_no_lock(partitioned: Database) -> None:
    def all_of_it() -> None:
        attach(partitioned, "orders", "{insert}", condition="new.id > 1")
        attach(partitioned, "orders", "{update,delete,truncate}", lane="mail")
        attach(partitioned, "parts", "{insert,truncate}")
        attach(partitioned, "low", "{insert}")

    all_of_it()
    before = triggers(partitioned)
    assert len(before) == 12
    with partitioned.connect() as busy, busy.transaction():
        busy.execute("insert into orders values (1)")
        busy.execute("insert into parts values (1, 'a')")
        name = psycopg.conninfo.conninfo_to_dict(partitioned.dsn)["dbname"]
        partitioned.run(f"alter database {name} set lock_timeout = '1s'")
        all_of_it()
    assert triggers(partitioned) == before


@pytest.mark.parametrize(
    "change", [{"condition": "new.id > 2"}, {"lane": "mail"}, {"condition": None, "lane": "mail"}]
)
def test_attaching_otherwise_replaces_the_trigger(base: Database, change: dict[str, str | None]) -> None:
    attach(base, "orders", "{insert}", condition="new.id > 1")
    attach(base, "orders", "{insert}", **change)
    base.run("insert into orders values (2), (3)")
    assert base.value("select lane from pgreact.queue limit 1") == change.get("lane")
    assert len(jobs(base)) == (1 if change.get("condition") else 2)
    assert len(triggers(base)) == 1
    assert health(base) == {("public.orders", "insert"): "ok"}


def test_a_detached_or_deleted_row_takes_its_triggers_with_it(base: Database, writer: Writer) -> None:
    attach(base, "orders")
    attach(base, "orders", "{truncate}")
    base.run("select pgreact.detach('orders', '{update,truncate}', enqueue => 'proj.order_changed')")
    assert set(health(base)) == {("public.orders", "insert"), ("public.orders", "delete")}
    base.run("delete from pgreact.outbox where event = 'insert'")
    for statement in (
        "insert into orders values (1)",
        "update orders set status = 'x'",
        "delete from orders",
    ):
        writer.execute(statement.encode())
    writer.execute("truncate orders")
    assert [job[0] for job in jobs(base)] == ["delete"]
    base.run("select pgreact.detach('orders', enqueue => 'proj.order_changed')")
    assert (triggers(base), health(base)) == ([], {})


def test_a_dropped_table_leaves_a_row_that_can_be_deleted(base: Database) -> None:
    attach(base, "orders", "{insert}")
    base.run("drop table orders")
    assert list(health(base).values()) == ["table dropped"]
    base.run("delete from pgreact.outbox")


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        ("'loose', enqueue => 't'", "loose has no primary key", "Add a primary key"),
        (
            "'orders'",
            "attach needs a table, at least one event, and a route or a task",
            "Like pgreact.attach(",
        ),
        (
            "'orders', 'dispatch'",
            "attach needs a table, at least one event, and a route",
            "'dispatch', '{insert}'",
        ),
        ("'orders', enqueue => ''", "attach needs a table", ""),
        ("null, enqueue => 't'", "attach needs a table", ""),
        ("'orders', enqueue => 't', events => '{}'", "attach needs a table, at least one event", ""),
        (
            "'orders', enqueue => repeat('t', 256)",
            "255 characters at most; this one has 256",
            "begins with tttt",
        ),
        (
            "'orders', enqueue => 't', lane => 'mial'",
            'no lane "mial" in pgreact.lane',
            "Lanes are default, mail",
        ),
        ("'orders', enqueue => 't', events => '{insrt}'", 'no event "insrt"', "Events are"),
        (
            "'orders', enqueue => 't', events => '{truncate}', condition => 'true'",
            "takes no condition",
            "own",
        ),
        ("'seen', enqueue => 't'", "seen is not a permanent table", "for a view"),
        ("'orders', enqueue => 't', condition => 'new.nope'", "column new.nope does not exist", ""),
    ],
)
def test_an_invalid_attach_is_refused_and_changes_nothing(
    base: Database, call: str, message: str, hint: str
) -> None:
    base.run("create table loose (id int)", "create view seen as select * from orders")
    with pytest.raises(psycopg.Error) as caught:
        base.run(f"select pgreact.attach({call})")
    assert message in (caught.value.diag.message_primary or "")
    assert hint in (caught.value.diag.message_hint or "")
    assert (triggers(base), health(base)) == ([], {})


def test_a_table_without_a_key_may_report_its_truncates(base: Database) -> None:
    base.run("create table loose (id int)")
    attach(base, "loose", "{truncate}")
    base.run("truncate loose")
    assert health(base) == {("public.loose", "truncate"): "ok"}
    assert jobs(base) == [("truncate", None, None, "public.loose")]


def test_detaching_an_unattached_table_names_the_attached(base: Database) -> None:
    attach(base, "orders")
    with pytest.raises(psycopg.errors.UndefinedObject, match='orders does not enqueue "t"') as caught:
        base.run("select pgreact.detach('orders', enqueue => 't')")
    assert caught.value.diag.message_hint == "It enqueues proj.order_changed."


@pytest.mark.parametrize(
    "call",
    [
        "attach('orders', 'dispatch', '{insert}')",
        "attach('orders', 'dispatch', '{insert}', null)",
        "attach('orders', 'dispatch'::varchar, '{insert}', 'new.id > 0')",
        "attach('orders'::regclass, name, array['insert']) from pgreact.route where name = 'dispatch'",
        "attach(watched => 'orders', route => 'dispatch', events => '{insert}')",
        "attach('orders', events => '{insert}', route => 'dispatch')",
    ],
)
def test_a_call_for_a_route_means_a_route(base: Database, call: str) -> None:
    base.run(
        "insert into pgreact.route (name, task) values ('dispatch', 't')",
        f"select pgreact.{call}",
    )
    assert base.value("select count(*) from pgreact.watched where relation = 'orders'::regclass") == 1
    assert health(base) == {}
    base.run("select pgreact.detach('orders', 'dispatch')")
    assert base.value("select count(*) from pgreact.watched where relation = 'orders'::regclass") == 0


def test_prepared_calls_of_attach_find_the_right_function(base: Database) -> None:
    base.run("insert into pgreact.route (name, task) values ('dispatch', 't')")
    with base.connect() as connection:
        arguments = {"table": "orders", "route": "dispatch", "events": ["insert"]}
        for _ in range(2):
            connection.execute(
                "select pgreact.attach(%(table)s, %(route)s, %(events)s)", arguments, prepare=True
            )
            connection.execute(
                "select pgreact.attach(%(table)s, enqueue => %(route)s)", arguments, prepare=True
            )
            connection.execute(
                "select pgreact.detach(%(table)s, enqueue => %(route)s)", arguments, prepare=True
            )
            connection.execute("select pgreact.detach(%(table)s, %(route)s)", arguments, prepare=True)
    assert (triggers(base), health(base)) == ([], {})


def test_uninstall_removes_the_outbox_entirely(partitioned: Database) -> None:
    attach(partitioned, "orders")
    attach(partitioned, "parts", "{insert,truncate}")
    partitioned.run("alter table parts detach partition low", "delete from pgreact.lane where name = 'mail'")
    assert pgreact("uninstall", "--yes", dsn=partitioned.dsn).code == 0
    assert triggers(partitioned) == []
    partitioned.run("insert into orders values (1)", "truncate low", "truncate parts")
