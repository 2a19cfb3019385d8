"""Tables with child tables (INHERITS): the changes of the children's rows are changes of the parent's."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgreact.postgres.queries import query
from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.signal_listener import SignalListener

EVENTS = "{insert,update,delete}"
FILE = """
[routes.r]
task = "proj.t"
tables = [
  { table = "events", on = ["insert"], when = "new.kind = 'x'" },
  { table = "events", on = ["truncate"] },
]
[[outbox]]
table = "events"
enqueue = "proj.changed"
"""


@pytest.fixture
def base(each_database: Database) -> Database:
    """``events`` with a child, that with one of its own, and a route; on the oldest and the newest server."""
    write("")
    apply(each_database)
    each_database.run(
        "create table events (id int primary key, kind text)",
        "create table events_a (extra int, primary key (id)) inherits (events)",
        "create table events_a_a (more int, primary key (id)) inherits (events_a)",
        "insert into pgreact.route (name, task) values ('r', 'proj.t')",
    )
    return each_database


@pytest.fixture
def ear(base: Database) -> Iterator[SignalListener]:
    """Receives the signals."""
    with SignalListener(base) as ear:
        yield ear


def health(base: Database) -> set[tuple[str, str, str]]:
    """Return table, event and state of each watched change that is not the queue's own."""
    with base.connect() as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        found: list[dict[str, Any]] = [
            row
            for name in ("trigger_health", "queue_outbox")
            for row in cursor.execute(query(name).encode()).fetchall()
        ]
    return {
        (row["table"], row["event"], row["trigger"])
        for row in found
        if not row["table"].startswith("pgreact.")
    }


def standing(base: Database) -> set[str]:
    """Return the tables that have a trigger of pgreact."""
    with base.connect() as connection:
        rows = connection.execute(
            "select distinct tgrelid::regclass::text from pg_trigger where tgname ~ '^pgreact_([1-9]|outbox)'"
        ).fetchall()
    return {name for (name,) in rows}


def test_changes_of_a_childs_rows_signal_the_parents_routes(base: Database, ear: SignalListener) -> None:
    base.run(f"select pgreact.attach('events', 'r', '{EVENTS}')")
    base.run("select pgreact.attach('events', 'r', '{truncate}')")
    assert health(base) == {("public.events", e, "ok") for e in ("insert", "update", "delete", "truncate")}
    with base.connect() as writer:
        expected = {
            statement: ["r"]
            for table, number in (("events", 1), ("events_a", 2), ("events_a_a", 3))
            for statement in (
                f"insert into {table} values ({number}, 'x')",
                f"update events set kind = 'y' where id = {number}",
                f"update {table} set kind = 'z' where id = {number}",
                f"delete from events where id = {number}",
                f"truncate {table}",
            )
        }
        assert ear.after(writer, *expected) == expected
        assert ear.after(writer, "delete from events") == {"delete from events": []}


def test_a_childs_change_enqueues_with_the_childs_name_and_key(base: Database) -> None:
    base.run(
        "select pgreact.attach('events', enqueue => 'proj.changed')",
        "insert into events values (1)",
        "insert into events_a_a values (1)",
    )
    assert base.value("select jsonb_agg(kwargs order by id) from pgreact.queue") == [
        {"table": "public.events", "operation": "insert", "key": {"id": 1}},
        {"table": "public.events_a_a", "operation": "insert", "key": {"id": 1}},
    ]


def test_a_child_without_a_primary_key_has_no_outbox(base: Database) -> None:
    base.run("create table keyless () inherits (events_a)")
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match=r"^public\.keyless has no primary key"
    ):
        base.run("select pgreact.attach('events', enqueue => 'proj.changed')")
    base.run("select pgreact.attach('events', enqueue => 'proj.changed', events => '{truncate}')")


def test_a_child_made_later_is_reported_and_apply_repairs_it(base: Database, ear: SignalListener) -> None:
    write(FILE)
    apply(base)
    base.run("create table events_b (primary key (id)) inherits (events)")
    said = pgreact("status", dsn=base.dsn)
    assert said.code == 1
    for line in (
        "insert on public.events when new.kind = 'x'",
        "truncate on public.events",
        "update on public.events enqueues proj.changed",
    ):
        assert f'  {line}: trigger MISSING ON A CHILD TABLE: run "pgreact apply"\n' in said.out
    assert apply(base) == (
        "~ route r: insert on public.events when new.kind = 'x'\n"
        "~ route r: truncate on public.events\n"
        "~ outbox: insert, update, delete on public.events enqueues proj.changed\n"
    )
    ear.signalled()
    with base.connect() as writer:
        expected: dict[str, list[str]] = {
            "insert into events_b values (1, 'x')": ["pgreact.queue", "r"],
            "insert into events_b values (2, 'y')": ["pgreact.queue"],
        }
        assert ear.after(writer, *expected) == expected
    assert apply(base) == "Nothing to change.\n"


def test_a_trigger_disabled_on_a_child_is_found_and_enabled(base: Database) -> None:
    base.run(
        "select pgreact.attach('events', 'r', '{insert}')",
        "alter table events_a_a disable trigger user",
    )
    assert health(base) == {("public.events", "insert", "disabled on a child table")}
    base.run("select pgreact.attach('events', 'r', '{insert}')")
    assert health(base) == {("public.events", "insert", "ok")}


def test_a_changed_condition_reaches_the_children(base: Database, ear: SignalListener) -> None:
    base.run(
        "select pgreact.attach('events', 'r', '{insert}', 'new.id = 1')",
        "select pgreact.attach('events', 'r', '{insert}', 'new.id = 2')",
    )
    with base.connect() as writer:
        expected = {
            "insert into events_a values (1)": [],
            "insert into events_a values (2)": ["r"],
        }
        assert ear.after(writer, *expected) == expected


def test_a_child_attached_itself_keeps_its_trigger_when_the_parent_goes(base: Database) -> None:
    for kind in ("'r', '{insert}'", "enqueue => 'proj.changed'"):
        parent, child = (f"('{table}', {kind})" for table in ("events", "events_a"))
        base.run(f"select pgreact.attach{parent}", f"select pgreact.attach{child}")
        what = kind.replace(", '{insert}'", "")
        base.run(f"select pgreact.detach('events', {what})")
        assert standing(base) == {"events_a", "events_a_a"}
        base.run(f"select pgreact.attach{parent}", f"select pgreact.detach('events_a', {what})")
        assert standing(base) == {"events", "events_a", "events_a_a"}
        assert {state for *_, state in health(base)} == {"ok"}
        base.run(f"select pgreact.detach('events', {what})")
        assert standing(base) == set()


def test_a_child_cannot_be_attached_otherwise_than_its_parent(base: Database) -> None:
    base.run("select pgreact.attach('events', 'r', '{insert}', 'new.id = 1')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"a parent of public\.events_a_a"):
        base.run("select pgreact.attach('events_a_a', 'r', '{insert}', 'new.id = 2')")


def test_attaching_a_parent_again_takes_no_lock(base: Database) -> None:
    calls = (
        "select pgreact.attach('events', 'r', '{insert,truncate}')",
        "select pgreact.attach('events', enqueue => 'proj.changed')",
    )
    base.run(*calls)
    with base.connect() as busy, busy.transaction():
        busy.execute("lock table events, events_a, events_a_a in row exclusive mode")
        with base.connect() as admin:
            admin.execute("set lock_timeout = '1ms'")
            for call in calls:
                admin.execute(call.encode())


def test_temporary_children_are_left_alone(base: Database) -> None:
    with base.connect() as connection:
        connection.execute("create temp table passing (primary key (id)) inherits (events)")
        connection.execute("select pgreact.attach('events', 'r', '{insert}')")
        assert health(base) == {("public.events", "insert", "ok")}


def test_uninstall_leaves_no_trigger_on_a_child(base: Database) -> None:
    write(FILE)
    apply(base)
    assert standing(base) == {"events", "events_a", "events_a_a"}
    assert pgreact("uninstall", "--yes", dsn=base.dsn).code == 0
    assert standing(base) == set()
