"""Conditions whose columns, types or functions change after they were attached."""

import pytest

from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.signal_listener import SignalListener

FILE = """
[routes.r]
task = "proj.t"
tables = [{ table = "jobs", on = ["insert", "update"], when = "new.status = 'ready' and public.due(new.at)" }]
[[outbox]]
table = "jobs"
enqueue = "proj.changed"
on = ["delete"]
when = "old.status = 'ready'"
"""


# constants that the settings of a session show in different ways
ODD = """new.at > '2021-02-03' and now() > '2020-01-01 3:00+0' and '1 day 2 h'::interval > '1 h'
    and random() < 0.1::float4::float8 and '\\x00ff'::bytea <> ''"""


@pytest.fixture
def base(each_database: Database) -> Database:
    """A database as ``FILE`` says, on the oldest and the newest server."""
    each_database.run(
        "create type mood as enum ('ready', 'done')",
        "create function due(at date) returns boolean immutable language sql as 'select at > ''2020-01-01'''",
        "create table jobs (id int primary key, status mood, at date) partition by range (id)",
        "create table jobs_1 partition of jobs for values from (0) to (100)",
    )
    write(FILE)
    apply(each_database)
    return each_database


@pytest.mark.parametrize(
    ("change", "word", "replacement", "names"),
    [
        ("alter table jobs rename status to state", ".status", ".state", "column new.status does not exist"),
        ("alter function due(date) rename to overdue", "public.due", "public.overdue",
         "function public.due(date) does not exist"),
    ],
)  # fmt: skip
def test_a_renaming_is_reported_and_apply_names_it(
    base: Database, change: str, word: str, replacement: str, names: str
) -> None:
    base.run(change)
    said = pgreact("status", dsn=base.dsn)
    assert said.code == 1
    assert "public.due(new.at): trigger CONDITION CHANGED: run" in said.out
    # the trigger works on
    with SignalListener(base) as ear, base.connect() as writer:
        statement = "insert into jobs values (1, 'ready', '2021-01-01')"
        assert ear.after(writer, statement) == {statement: ["r"]}

    said = pgreact("apply", dsn=base.dsn)
    assert said.code == 2
    assert f"public.jobs, condition new.status = 'ready' and public.due(new.at): {names}" in said.err
    assert len(said.err.splitlines()) == 1

    write(FILE.replace(word, replacement))
    assert "~ route r: insert, update on public.jobs when new." in apply(base)
    assert apply(base) == "Nothing to change.\n"
    with SignalListener(base) as ear, base.connect() as writer:
        statement = "insert into jobs values (2, 'ready', '2021-01-01')"
        assert ear.after(writer, statement) == {statement: ["r"]}


@pytest.mark.parametrize("change", [
    "alter type mood rename to temper", "alter type mood rename value 'done' to 'over'",
    "alter table jobs rename to jobs_2",
    "alter table jobs rename at to until; alter table jobs rename until to at",
    "alter table jobs add x int", "create schema other; alter type mood set schema other",
])  # fmt: skip
def test_a_change_that_keeps_the_condition_valid_is_repaired_by_apply(base: Database, change: str) -> None:
    base.run(*change.split("; "))
    write(FILE.replace('"jobs"', '"jobs_2"') if "jobs_2" in change else FILE)
    apply(base)
    assert apply(base) == "Nothing to change.\n"
    assert "trigger CONDITION" not in pgreact("status", dsn=base.dsn).out


@pytest.mark.parametrize("name", [
    "quote_all_identifiers = on", "datestyle = 'German'", "intervalstyle = 'iso_8601'",
    "extra_float_digits = -3", "bytea_output = 'escape'", "timezone = 'Asia/Tokyo'",
    "search_path = 'pg_catalog'",
])  # fmt: skip
def test_settings_of_the_session_change_no_condition(base: Database, name: str) -> None:
    base.run(
        "insert into pgreact.route (name, task) values ('odd', 't')",
        f"select pgreact.attach('jobs', 'odd', '{{insert}}', $${ODD}$$)",
    )
    base.run(f"alter database {base.value('select current_database()')} set {name}")
    assert "trigger CONDITION" not in pgreact("status", dsn=base.dsn).out
    write(FILE.replace('"jobs"', '"public.jobs"'))
    assert apply(base) == "Nothing to change.\n"


@pytest.mark.parametrize(
    ("alter", "condition"),
    [
        ("alter table jobs alter status type text", "new.status = 'ready'"),
        ("alter table jobs drop status", "new.at is not null"),
    ],
)
def test_a_column_of_a_condition_is_changed_between_detach_and_attach(
    base: Database, alter: str, condition: str
) -> None:
    with pytest.raises(
        Exception, match=r"trigger pgreact_1_insert on table (public\.)?jobs depends on column"
    ):
        base.run(alter)
    with base.connect() as admin, admin.transaction():
        admin.execute("select pgreact.detach('jobs', 'r')")
        admin.execute("select pgreact.detach('jobs', enqueue => 'proj.changed')")
        admin.execute(alter.encode())
        admin.execute("select pgreact.attach('jobs', 'r', '{insert,update}', %s)", [condition])
    write(
        FILE.replace("new.status = 'ready' and public.due(new.at)", condition).replace(
            "old.status = 'ready'", "true"
        )
    )
    assert apply(base) == (
        f"~ route r: insert, update on public.jobs when {condition}\n"
        "+ outbox: delete on public.jobs when true enqueues proj.changed\n"
    )
    assert apply(base) == "Nothing to change.\n"
