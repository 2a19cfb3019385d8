"""The signals of commits, on the oldest and the newest PostgreSQL."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.postgres.queries import query
from tests import servers
from tests.conftest import MAJOR
from tests.harness import Database, fresh_database
from tests.hostile import PINNED
from tests.signal_listener import SignalListener

Install = Callable[..., None]
Writer = psycopg.Connection[tuple[Any, ...]]

EVENTS = ("insert", "update", "delete", "truncate")


@pytest.fixture
def base(each_database: Database, installed: Install) -> Database:
    """A database with a table, and with a route named after each event."""
    installed(each_database)
    each_database.run(
        "create table job_queue (id int primary key, status text)",
        "insert into pgreact.route (name, task) "
        "select unnest('{insert,update,delete,truncate}'::text[]), 'proj.t'",
    )
    return each_database


@pytest.fixture
def ear(base: Database) -> Iterator[SignalListener]:
    with SignalListener(base) as ear:
        yield ear


@pytest.fixture
def writer(base: Database) -> Iterator[Writer]:
    with base.connect() as connection:
        yield connection


def watch(
    base: Database, table: str, *events: str, condition: str | None = None, route: str | None = None
) -> None:
    """Attach each event to the route of its name, or all of them to one route."""
    with base.connect() as connection:
        for event in events:
            connection.execute(
                "select pgreact.attach(%s, %s, %s, %s)", [table, route or event, [event], condition]
            )


def test_a_route_can_be_signalled_by_changes_of_some_columns_alone(
    base: Database, ear: SignalListener
) -> None:
    base.run(
        "select pgreact.attach('job_queue', 'update', '{insert,update}', changed => '{status}')",
        "insert into job_queue values (1, 'a')",
    )
    assert len(ear.signalled()) == 1
    base.run("update job_queue set status = 'a'", "update job_queue set id = 2")
    assert ear.signalled() == []
    base.run("update job_queue set status = 'b'")
    assert len(ear.signalled()) == 1
    base.run("update pgreact.route set gate = 'open'", "update job_queue set status = 'b'")
    assert ear.signalled() == ["routes"]  # the trigger was made anew with the columns
    base.run("update job_queue set status = 'c'")
    assert len(ear.signalled()) == 1


def health(base: Database) -> dict[tuple[str, str], str]:
    """Return the state of each trigger in ``pgreact status``."""
    with base.connect() as connection:
        rows = connection.execute(query("trigger_health").encode()).fetchall()
    return {(row[2], row[3]): row[7] for row in rows if row[0] != QUEUE_ROUTE}


def triggers(base: Database) -> list[tuple[Any, ...]]:
    """Return all triggers, with their identity."""
    with base.connect() as connection:
        return connection.execute(
            "select tgrelid::regclass::text, tgname, oid, xmin::text from pg_trigger "
            "where tgname ~ '^pgreact_[1-9]' order by 1, 2"
        ).fetchall()


def newer(base: Database, major: int) -> bool:
    return int(base.value("show server_version_num")) >= major * 10000


# ---- what a statement signals ------------------------------------------------------------------------------


def test_each_kind_of_change_signals_its_route_and_no_other(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(base, "job_queue", *EVENTS)
    expected = {
        "insert into job_queue values (1), (2)": ["insert"],
        "update job_queue set status = 'x' where id = 1": ["update"],
        "insert into job_queue values (1) on conflict (id) do update set status = 'y'": ["update"],
        "insert into job_queue values (1), (3) on conflict (id) do update set status = 'z'": [
            "insert",
            "update",
        ],
        "with x as (delete from job_queue where id = 3 returning 4) insert into job_queue table x": [
            "delete",
            "insert",
        ],
        "delete from job_queue where id = 4": ["delete"],
        "create table copied as select * from job_queue": [],
        "select * from job_queue for update": [],
        "truncate job_queue": ["truncate"],
    }
    assert ear.after(writer, *expected) == expected


def test_a_statement_that_changes_no_row_is_silent(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(base, "job_queue", "insert", "update", "delete")
    writer.execute("insert into job_queue values (1)")
    ear.signalled()
    silent = [
        "insert into job_queue select 2 where false",
        "insert into job_queue values (1) on conflict do nothing",
        "insert into job_queue values (1) on conflict (id) do update set status = 'x' where false",
        "update job_queue set status = 'x' where id = 0",
        "delete from job_queue where id = 0",
    ]
    assert ear.after(writer, *silent) == {statement: [] for statement in silent}


def test_merge_signals_what_it_did(base: Database, ear: SignalListener, writer: Writer) -> None:
    if not newer(base, 15):
        pytest.skip("MERGE came with PostgreSQL 15")
    watch(base, "job_queue", *EVENTS)
    merge = "merge into job_queue q using (values ({}, '{}')) v (id, s) on q.id = v.id "
    both = "when matched and s = 'gone' then delete when matched then update set status = s "
    expected = {
        merge.format(1, "new") + both + "when not matched then insert values (v.id, s)": ["insert"],
        merge.format(1, "old") + both + "when not matched then insert values (v.id, s)": ["update"],
        merge.format(2, "old") + both: [],
        merge.format(1, "gone") + both: ["delete"],
    }
    assert ear.after(writer, *expected) == expected


def test_copy_signals_once(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", *EVENTS)
    with writer.cursor() as cursor, cursor.copy("copy job_queue from stdin") as copy:
        for number in range(1000):
            copy.write_row((number, "new"))
    assert ear.signalled() == ["insert"]
    with writer.cursor() as cursor, cursor.copy("copy job_queue from stdin") as copy:
        copy.write("")
    assert ear.signalled() == []


@pytest.mark.parametrize("condition", [None, "new.id > 5"])
def test_the_changes_of_one_transaction_fold_into_one_notification(
    base: Database, ear: SignalListener, writer: Writer, condition: str | None
) -> None:
    watch(base, "job_queue", "insert", "update", condition=condition, route="insert")
    with writer.transaction():
        writer.execute("insert into job_queue select generate_series(1, 20000)")
        writer.execute("update job_queue set status = 'x'")
        with writer.transaction():
            writer.execute("insert into job_queue values (0), (30000)")
    assert ear.signalled() == ["insert"]


def test_a_condition_sees_old_and_new_rows(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", "insert", condition="new.status = 'ready'")
    watch(base, "job_queue", "update", condition="old.status is distinct from new.status -- a comment")
    watch(base, "job_queue", "delete", condition="old.status <> 'done' or (old.id > 10)")
    expected = {
        "insert into job_queue values (1, 'new')": [],
        "insert into job_queue values (2, 'ready'), (3, 'new')": ["insert"],
        "update job_queue set id = id + 1 where id = 3": [],
        "update job_queue set status = 'done' where id < 3": ["update"],
        "delete from job_queue where id = 1": [],
        "delete from job_queue where id = 4": ["delete"],
    }
    assert ear.after(writer, *expected) == expected


def test_a_foreign_key_cascade_signals(base: Database, ear: SignalListener, writer: Writer) -> None:
    base.run(
        "create table parent (id int primary key)",
        "create table child (id int, p int references parent on delete cascade on update cascade)",
        "create table orphan (id int, p int references parent on delete set null)",
        "insert into parent values (1), (2), (3)",
        "insert into child values (1, 1), (2, 2)",
        "insert into orphan values (3, 3)",
    )
    watch(base, "child", "update", "delete")
    watch(base, "orphan", "update", route="truncate")
    expected = {
        "delete from parent where id = 1": ["delete"],
        "update parent set id = 20 where id = 2": ["update"],
        "delete from parent where id = 3": ["truncate"],
        "truncate parent cascade": [],
    }
    assert ear.after(writer, *expected) == expected
    watch(base, "child", "truncate")
    assert ear.after(writer, "truncate parent cascade") == {"truncate parent cascade": ["truncate"]}


@pytest.mark.parametrize("schema", ["public", 'Weird "Schema, .', "größe"])
@pytest.mark.parametrize(
    "table", ['Job "Queue"', "a.b c", "Aufträge", "select", "x" * 63, "%s {}", "back\\slash '"]
)
def test_any_name_can_be_watched(installed: Install, database: Database, schema: str, table: str) -> None:
    installed(database)
    database.run("insert into pgreact.route (name, task) values ('insert', 'proj.t'), ('update', 'proj.t')")
    name = sql.Identifier(schema, table).as_string()
    database.run(
        f"create schema if not exists {sql.Identifier(schema).as_string()}",
        f'create table {name} ("Old New" text)',
    )
    with SignalListener(database) as ear, database.connect() as writer:
        watch(database, name, "insert")
        watch(database, name, "update", condition="new.\"Old New\" = '%s'")
        expected = {
            f"insert into {name} values ('a')": ["insert"],
            f"update {name} set \"Old New\" = 'x'": [],
            f"update {name} set \"Old New\" = '%s'": ["update"],
        }
        assert ear.after(writer, *expected) == expected
        assert set(health(database).values()) == {"ok"}
        database.run("delete from pgreact.route")
        assert not triggers(database)


def test_a_table_feeds_several_routes_and_a_route_several_tables(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    base.run("create table in_progress (id int)")
    watch(base, "job_queue", "insert", route="insert")
    watch(base, "job_queue", "insert", "delete", route="update")
    watch(base, "in_progress", "insert", "delete", route="insert")
    expected = {
        "insert into job_queue values (1)": ["insert", "update"],
        "insert into in_progress values (1)": ["insert"],
        "delete from job_queue": ["update"],
        "delete from in_progress": ["insert"],
        "with x as (insert into in_progress values (1)) insert into job_queue values (1)": [
            "insert",
            "update",
        ],
    }
    assert ear.after(writer, *expected) == expected


# ---- transactions ------------------------------------------------------------------------------------------


def test_a_rolled_back_transaction_never_signals(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", *EVENTS)
    with writer.transaction(force_rollback=True):
        writer.execute("insert into job_queue values (1)")
        writer.execute("truncate job_queue")
        writer.execute("select pgreact.signal('update')")
    assert ear.signalled() == []


def test_a_rolled_back_savepoint_never_signals(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", *EVENTS)
    with writer.transaction():
        writer.execute("insert into job_queue values (1)")
        with writer.transaction(force_rollback=True):
            writer.execute("update job_queue set status = 'x'")
            writer.execute("delete from job_queue")
    assert ear.signalled() == ["insert"]


def test_a_savepoint_that_fails_takes_back_only_its_own_signals(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(base, "job_queue", *EVENTS)
    writer.execute(
        """do $$
        begin
            insert into job_queue values (1);
            begin
                delete from job_queue;
                insert into job_queue values (2), (2);
            exception when unique_violation then
                update job_queue set status = 'kept';
            end;
        end $$"""
    )
    assert ear.signalled() == ["insert", "update"]


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
def test_a_commit_signals_at_every_isolation_level(
    base: Database, ear: SignalListener, writer: Writer, level: psycopg.IsolationLevel
) -> None:
    watch(base, "job_queue", "insert", "update")
    writer.isolation_level = level
    with writer.transaction():
        writer.execute("insert into job_queue values (1)")
        assert ear.signalled() == []
    assert ear.signalled() == ["insert"]


def test_a_transaction_that_fails_to_serialize_never_signals(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(base, "job_queue", "update")
    writer.execute("insert into job_queue values (1), (2)")
    ear.signalled()
    with base.connect(autocommit=False) as loser:
        loser.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        loser.execute("update job_queue set status = 'x' where id = 1")
        writer.execute("update job_queue set status = 'y' where id = 2")
        with pytest.raises(psycopg.errors.SerializationFailure):
            loser.execute("update job_queue set status = 'x' where id = 2")
    assert ear.signalled() == ["update"]  # the winner's


def test_a_transaction_that_signals_cannot_be_prepared(installed: Install) -> None:
    with servers.Postgres(
        bindir=servers.postgres_binaries(MAJOR), settings={"max_prepared_transactions": "2"}
    ) as server:
        database = Database(server.dsn())
        database.run("create table job_queue (id int)")
        installed(database)
        database.run("insert into pgreact.route (name, task) values ('insert', 'proj.t')")
        watch(database, "job_queue", "insert")
        with database.connect() as writer:
            writer.execute("begin; insert into job_queue values (1)")
            with pytest.raises(
                psycopg.errors.FeatureNotSupported, match=r"PREPARE a transaction that has .*NOTIFY"
            ):
                writer.execute("prepare transaction 'x'")
            # muted, it can: prepared transactions signal by a call of their own
            writer.execute("rollback")
            writer.execute("begin; select pgreact.mute(); insert into job_queue values (1)")
            writer.execute("prepare transaction 'x'")
            writer.execute("commit prepared 'x'")


# ---- mute and signal ---------------------------------------------------------------------------------------


def test_mute_silences_the_rest_of_the_transaction_and_no_more(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(base, "job_queue", "insert", "update", "truncate")
    with writer.transaction():
        writer.execute("insert into job_queue values (1)")
        writer.execute("select pgreact.mute()")
        writer.execute("update job_queue set status = 'x'")
        writer.execute("truncate job_queue")
        writer.execute("select pgreact.signal('delete')")
    assert ear.signalled() == ["insert"]
    writer.execute("insert into job_queue values (2)")
    assert ear.signalled() == ["insert"]


def test_a_rolled_back_savepoint_takes_mute_back(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", "insert", "update")
    with writer.transaction():
        with writer.transaction(force_rollback=True):
            writer.execute("select pgreact.mute()")
            writer.execute("update job_queue set status = 'x'")
        writer.execute("insert into job_queue values (1)")
    assert ear.signalled() == ["insert"]


def test_signal_signals_on_commit(base: Database, ear: SignalListener, writer: Writer) -> None:
    with writer.transaction():
        writer.execute("select pgreact.signal('update'), pgreact.signal('update')")
        assert ear.signalled() == []
    assert ear.signalled() == ["update"]


def test_signal_of_an_unknown_route_names_the_known_ones(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match='no route "nope"') as caught:
        writer.execute("select pgreact.signal('nope')")
    assert caught.value.diag.message_hint == "Known routes: delete, insert, pgreact.queue, truncate, update."


def test_a_trigger_of_ones_own_may_signal(base: Database, ear: SignalListener, writer: Writer) -> None:
    base.run(
        "create function own() returns trigger language plpgsql as "
        "$$begin perform pgreact.signal('update'); return null; end$$",
        "create trigger own after insert on job_queue execute function own()",
    )
    writer.execute("insert into job_queue values (1)")
    assert ear.signalled() == ["update"]


@pytest.mark.parametrize(("gate", "last"), [("open", 7), ("auto", 1), ("closed", 1)])
def test_a_writers_own_sequence_is_its_own_but_lastval_is_not(
    base: Database, writer: Writer, gate: str, last: int
) -> None:
    base.run(
        "create table own (id int primary key generated always as identity (start 7))",
        "update pgreact.route set gate = '" + gate + "'",
    )
    watch(base, "own", "insert")
    assert writer.execute("insert into own default values returning id").fetchone() == (7,)
    assert writer.execute("select currval(pg_get_serial_sequence('own', 'id')), lastval()").fetchone() == (
        7,
        last,
    )


# ---- partitions --------------------------------------------------------------------------------------------


@pytest.fixture
def partitioned(base: Database) -> Database:
    """``parts`` with a partition ``low``, and below ``high`` a partition ``high_a``."""
    base.run(
        "create table parts (id int, status text) partition by range (id)",
        "create table low partition of parts for values from (0) to (100)",
        "create table high partition of parts for values from (100) to (200) partition by list (status)",
        "create table high_a partition of high for values in ('a')",
    )
    return base


def changes(table: str, number: int, status: str = "a") -> dict[str, list[str]]:
    """Return a change of each kind of a table, and what it should signal."""
    return {
        f"insert into {table} values ({number}, '{status}')": ["insert"],
        f"update {table} set status = status where id = {number}": ["update"],
        f"update {table} set status = status where id = -1": [],
        f"delete from {table} where id = {number}": ["delete"],
        f"delete from {table} where id = -1": [],
        f"truncate {table}": ["truncate"],
    }


@pytest.mark.parametrize("condition", [None, "true"])
def test_a_change_counts_through_the_parent_and_in_each_partition(
    partitioned: Database, ear: SignalListener, writer: Writer, condition: str | None
) -> None:
    watch(partitioned, "parts", "insert", condition=condition and "new.id > 0")
    watch(partitioned, "parts", "update", condition=condition and "new.id >= 0 and old.id >= 0")
    watch(partitioned, "parts", "delete", condition=condition and "old.id >= 0")
    watch(partitioned, "parts", "truncate")
    expected = {
        **changes("parts", 1),
        **changes("parts", 100),
        **changes("low", 1),
        **changes("high", 100),
        **changes("high_a", 100),
    }
    assert ear.after(writer, *expected) == expected
    assert set(health(partitioned).values()) == {"ok"}


def test_a_bulk_insert_through_the_parent_folds_into_one_notification(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(partitioned, "parts", "insert")
    writer.execute("insert into parts select n % 200, 'a' from generate_series(0, 9999) n")
    assert ear.signalled() == ["insert"]


def test_a_partition_made_or_attached_later_counts(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(partitioned, "parts", *EVENTS)
    partitioned.run(
        "create table made partition of parts for values from (200) to (300)",
        "create table brought (id int, status text)",
        "alter table parts attach partition brought for values from (300) to (400)",
        "create table high_b partition of high for values in ('b')",
    )
    expected = {
        **changes("made", 200),
        **changes("brought", 300),
        **changes("high_b", 100, "b"),
    }
    late = {statement: [] if "truncate" in statement else heard for statement, heard in expected.items()}
    assert ear.after(writer, *expected) == late
    # PostgreSQL clones no truncate trigger; status reports it, and attaching again repairs it
    assert health(partitioned)["public.parts", "truncate"] == "missing on a partition"
    watch(partitioned, "parts", *EVENTS)
    assert ear.after(writer, *expected) == expected
    assert set(health(partitioned).values()) == {"ok"}


def test_a_detached_partition_no_longer_signals(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(partitioned, "parts", "insert", "update", "delete")
    partitioned.run("alter table parts detach partition low", "alter table parts detach partition high")
    statements = [*changes("low", 1), *changes("high", 100), *changes("high_a", 101)]
    silent: dict[str, list[str]] = {statement: [] for statement in statements}
    assert ear.after(writer, *silent) == silent
    assert [row[0] for row in triggers(partitioned)] == ["parts"] * 3


def test_a_partition_alone_can_be_watched(partitioned: Database, ear: SignalListener, writer: Writer) -> None:
    watch(partitioned, "low", *EVENTS)
    expected = {
        **changes("low", 1),
        **changes("parts", 2),
        "insert into parts values (100, 'a')": [],
        "update parts set status = 'a'": [],
    }
    assert ear.after(writer, *expected) == expected


def test_partition_and_parent_can_both_be_watched(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(partitioned, "low", "insert", route="update")
    watch(partitioned, "parts", "insert", "delete", route="insert")
    watch(partitioned, "parts", "insert", route="update")
    watch(partitioned, "low", "insert", "delete", route="insert")  # which adds nothing
    expected = {
        "insert into low values (1)": ["insert", "update"],
        "insert into parts values (2)": ["insert", "update"],
        "delete from low where id = 1": ["insert"],
    }
    assert ear.after(writer, *expected) == expected
    assert set(health(partitioned).values()) == {"ok"}
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match=r"a parent of public.low .* another condition"
    ):
        watch(partitioned, "low", "insert", condition="new.id = 1", route="insert")


def test_a_row_that_an_update_moves_to_another_partition_counts_as_deleted_and_inserted(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    watch(partitioned, "parts", "insert", "delete")
    writer.execute("insert into parts values (1, 'a')")
    ear.signalled()
    moves = "update parts set id = 100 where id = 1"
    assert ear.after(writer, moves) == {moves: ["delete", "insert"]}


def test_a_table_that_becomes_a_partition_or_no_longer_is_one_signals_on(
    partitioned: Database, ear: SignalListener, writer: Writer
) -> None:
    partitioned.run("create table lone (id int, status text)")
    watch(partitioned, "lone", "insert")
    partitioned.run("alter table parts attach partition lone for values from (500) to (600)")
    writer.execute("insert into parts values (500)")
    assert ear.signalled() == ["insert"]
    partitioned.run("alter table parts detach partition lone")
    assert health(partitioned) == {("public.lone", "insert"): "ok"}
    assert ear.after(writer, "insert into lone select where false", "insert into lone values (1)") == {
        "insert into lone select where false": [],
        "insert into lone values (1)": ["insert"],
    }


# ---- attach and detach -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("job_queue", "nope", ["insert"], None), 'no route "nope"'),
        (("job_queue", "insert", ["upsert"], None), 'no event "upsert"'),
        (("job_queue", "insert", ["insert", None], None), "no event"),
        (("seen", "insert", ["insert"], None), "seen is not a permanent table"),
        (("stored", "insert", ["insert"], None), "stored is not a permanent table"),
        (("passing", "insert", ["insert"], None), "passing is not a permanent table"),
        (("counter", "insert", ["insert"], None), "counter is not a permanent table"),
        (("job_queue", "insert", ["truncate"], "true"), "a truncate has no rows"),
        (("job_queue", "insert", ["insert"], "old.id = 1"), "cannot reference OLD values"),
        (("job_queue", "insert", ["insert"], "new.id ="), "syntax error"),
        (("job_queue", "insert", ["insert"], "new.nope"), "does not exist"),
        (("job_queue", "insert", ["insert"], ""), "syntax error"),
        (("job_queue", "insert", ["insert"], "true) execute function pg_sleep(9); --"), "."),
        (("job_queue", "insert", [], None), "attach needs"),
        (("job_queue", "insert", None, None), "attach needs"),
        (("job_queue", None, ["insert"], None), "attach needs"),
        ((None, "insert", ["insert"], None), "attach needs"),
        (("nope", "insert", ["insert"], None), 'relation "nope" does not exist'),
    ],
    ids=str,
)
def test_attach_says_what_is_wrong(base_once: Database, arguments: tuple[object, ...], message: str) -> None:
    with base_once.connect() as connection, connection.transaction():
        connection.execute("create temp table passing (id int)")
        with pytest.raises(psycopg.Error, match=message), connection.transaction():
            connection.execute("select pgreact.attach(%s, %s, %s, %s)", arguments)
        assert connection.execute("select count(*) from pgreact.watched where route_id > 0").fetchone() == (
            0,
        )


def test_attaching_again_changes_nothing_and_takes_no_lock(partitioned: Database) -> None:
    def attach() -> None:
        watch(partitioned, "job_queue", *EVENTS)
        watch(partitioned, "job_queue", "insert", condition="new.id > 1", route="delete")
        watch(partitioned, "parts", *EVENTS)
        watch(partitioned, "low", *EVENTS, route="insert")

    attach()
    before = triggers(partitioned)
    with partitioned.connect() as busy, busy.transaction():
        busy.execute("lock table job_queue, parts in row exclusive mode")
        with partitioned.connect() as admin:
            name = admin.info.dbname
            admin.execute(f"alter database {name} set lock_timeout = '1ms'")
        attach()
    assert triggers(partitioned) == before


def test_attach_replaces_a_condition(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", "insert", condition="new.id = 1")
    watch(base, "job_queue", "insert", condition="new.id = 2")
    assert ear.after(writer, "insert into job_queue values (1)", "insert into job_queue values (2)") == {
        "insert into job_queue values (1)": [],
        "insert into job_queue values (2)": ["insert"],
    }
    watch(base, "job_queue", "insert")
    writer.execute("insert into job_queue values (3)")
    assert ear.signalled() == ["insert"]
    assert len(triggers(base)) == 1


@pytest.mark.parametrize(
    "harm", ["disable trigger pgreact_{}_insert", "enable replica trigger pgreact_{}_insert"]
)
def test_attach_enables_a_disabled_trigger(
    base: Database, ear: SignalListener, writer: Writer, harm: str
) -> None:
    watch(base, "job_queue", "insert")
    harm = harm.format(base.value("select id from pgreact.route where name = 'insert'"))
    base.run(f"alter table job_queue {harm}")
    assert health(base) == {("public.job_queue", "insert"): "disabled"}
    watch(base, "job_queue", "insert")
    assert health(base) == {("public.job_queue", "insert"): "ok"}
    writer.execute("insert into job_queue values (1)")
    assert ear.signalled() == ["insert"]


@pytest.mark.parametrize("event", ["insert", "truncate"])
def test_a_trigger_disabled_on_one_partition_is_found_and_enabled(partitioned: Database, event: str) -> None:
    watch(partitioned, "parts", event)
    number = partitioned.value("select id from pgreact.route where name = %s", event)
    partitioned.run(f"alter table high_a disable trigger pgreact_{number}_{event}")
    assert health(partitioned) == {("public.parts", event): "disabled on a partition"}
    watch(partitioned, "parts", event)
    assert health(partitioned) == {("public.parts", event): "ok"}


def test_a_dropped_trigger_is_found_and_made_anew(base: Database) -> None:
    watch(base, "job_queue", "insert")
    number = base.value("select id from pgreact.route where name = 'insert'")
    base.run(f"drop trigger pgreact_{number}_insert on job_queue")
    assert health(base) == {("public.job_queue", "insert"): "missing"}
    watch(base, "job_queue", "insert")
    assert health(base) == {("public.job_queue", "insert"): "ok"}


def test_a_dropped_table_is_found(base: Database) -> None:
    watch(base, "job_queue", "insert")
    number = base.value("select 'job_queue'::regclass::oid::text")
    base.run("drop table job_queue")
    assert health(base) == {(number, "insert"): "table dropped"}
    base.run("delete from pgreact.watched")


def test_a_renamed_table_stays_watched(base: Database, ear: SignalListener, writer: Writer) -> None:
    watch(base, "job_queue", "insert")
    base.run("create schema other", "alter table job_queue rename to q", "alter table q set schema other")
    assert health(base) == {("other.q", "insert"): "ok"}
    writer.execute("insert into other.q values (1)")
    assert ear.signalled() == ["insert"]


def test_detach_drops_the_triggers_of_that_table_and_route(
    partitioned: Database, ear: SignalListener
) -> None:
    watch(partitioned, "job_queue", *EVENTS, route="insert")
    watch(partitioned, "job_queue", "insert", route="update")
    watch(partitioned, "parts", *EVENTS, route="insert")
    partitioned.run(
        "select pgreact.detach('job_queue', 'insert')", "select pgreact.detach('job_queue', 'delete')"
    )
    assert {row[0] for row in triggers(partitioned)} == {"job_queue", "parts", "low", "high", "high_a"}
    assert sum(row[0] == "job_queue" for row in triggers(partitioned)) == 1
    partitioned.run("select pgreact.detach('parts', 'insert')")
    assert [row[0] for row in triggers(partitioned)] == ["job_queue"]
    with pytest.raises(psycopg.errors.UndefinedObject, match='no route "nope"'):
        partitioned.run("select pgreact.detach('job_queue', 'nope')")


def test_deleting_a_route_drops_its_triggers(partitioned: Database) -> None:
    watch(partitioned, "job_queue", *EVENTS, route="insert")
    watch(partitioned, "parts", *EVENTS, route="insert")
    watch(partitioned, "parts", "insert", route="update")
    partitioned.run("alter table parts detach partition low")  # which keeps its truncate trigger
    partitioned.run("delete from pgreact.route where name = 'insert'")
    number = partitioned.value("select id from pgreact.route where name = 'update'")
    assert {row[1] for row in triggers(partitioned)} == {f"pgreact_{number}_insert"}
    partitioned.run("drop table parts", "delete from pgreact.route")
    assert triggers(partitioned) == []


def test_a_change_to_the_routes_notifies_the_daemons(
    base: Database, ear: SignalListener, writer: Writer
) -> None:
    change = "update pgreact.route set \"window\" = '1 s' where name = 'insert'"
    assert ear.after(writer, change) == {change: ["routes"]}


@pytest.fixture(scope="module")
def base_once(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """One database for all tests that leave it as it was."""
    with fresh_database(postgres) as database:
        with database.connect(options=PINNED) as connection:
            from pgreact.apply import apply
            from pgreact.settings import Settings

            list(apply(connection, Settings(), 10.0, lambda _line: None))
        database.run(
            "create table job_queue (id int primary key, status text)",
            "insert into pgreact.route (name, task) values ('insert', 'proj.t')",
            "create view seen as select * from job_queue",
            "create materialized view stored as select * from job_queue",
            "create sequence counter",
        )
        yield database
