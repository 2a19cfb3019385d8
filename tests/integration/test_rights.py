"""What belongs to a user never runs with the rights of pgreact's owner, here a superuser."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.harness import Database

Install = Callable[..., None]

TASK = "proj.changed"


@pytest.fixture
def base(each_database: Database, installed: Install) -> Iterator[Database]:
    """A database of a superuser's pgreact, and a role ``mallory`` who owns a schema, a cast and nothing else."""
    base = each_database
    installed(base, {})
    base.run(
        "drop role if exists mallory",
        "create role mallory",
        "create schema evil authorization mallory",
        # no guarded operation is refused here: the log tells with whose rights it ran
        "create table evil.log (ran_as text)",
        "grant insert on evil.log to public",
        "grant usage on schema evil to public",
        "set role mallory",
    )
    with base.connect() as connection:
        connection.execute("set role mallory")
        connection.execute("create type evil.mood as enum ('bad', 'good')")
        connection.execute(
            "create function evil.to_json(evil.mood) returns json language plpgsql as $$"
            "begin insert into evil.log values (current_user); return '1'; end$$"
        )
        connection.execute("create cast (evil.mood as json) with function evil.to_json(evil.mood)")
    yield base
    base.run("drop owned by mallory cascade", "drop role mallory")


def ran_as(base: Database) -> Any:
    """Return with whose rights the cast ran."""
    return base.value("select array_agg(distinct ran_as) from evil.log")


def as_mallory(base: Database, *statements: str) -> None:
    """Run statements with the rights of the table's owner."""
    with base.connect() as connection:
        connection.execute("set role mallory")
        for statement in statements:
            connection.execute(statement.encode())


def attached(base: Database, columns: str, key: str) -> None:
    """Make a table of mallory's, and let the superuser attach an outbox to it."""
    as_mallory(base, f"create table evil.t ({columns}, primary key ({key}))")
    base.run(f"select pgreact.attach('evil.t', enqueue => '{TASK}')")


def keys(base: Database) -> list[Any]:
    """Return the keys of the jobs, in order."""
    with base.connect() as connection:
        return [row[0] for row in connection.execute("select kwargs -> 'key' from pgreact.queue order by id")]


def test_the_cast_of_the_fixture_would_run(base: Database) -> None:
    as_mallory(base, "select to_jsonb('bad'::evil.mood)")
    assert ran_as(base) == ["mallory"]


@pytest.mark.parametrize(
    ("type_", "using", "value", "key"),
    [
        ("evil.mood", "'bad'::evil.mood", "'good'", "good"),
        ("evil.mood[]", "'{bad}'::evil.mood[]", "'{good}'", "{good}"),
        ("evil.pair", "row('bad', 1)::evil.pair", "row('good', 2)", "(good,2)"),
        ("evil.span", "evil.span('bad', 'bad', '[]')", "evil.span('good', 'good', '[]')", "[good,good]"),
        ("evil.spans", "'{[bad,bad]}'::evil.spans", "'{[good,good]}'", "{[good,good]}"),
        ("evil.checked", "'bad'::evil.checked", "'good'", "good"),
        ("evil.checked_again", "'bad'::evil.checked_again", "'good'", "good"),
    ],
)
def test_a_type_given_to_a_key_later_runs_nothing_of_its_owner_with_our_rights(
    base: Database, type_: str, using: str, value: str, key: str
) -> None:
    attached(base, "id int", "id")
    as_mallory(
        base,
        "create type evil.pair as (mood evil.mood, number int)",
        "create type evil.span as range (subtype = evil.mood, multirange_type_name = evil.spans)",
        "create domain evil.checked as evil.mood",
        "create domain evil.checked_again as evil.checked",
        f"alter table evil.t alter id type {type_} using {using}",
        f"insert into evil.t values ({value})",
        "delete from evil.t",
    )
    assert keys(base) == [{"id": key}, {"id": key}]
    assert ran_as(base) is None


@pytest.mark.parametrize("name", ["row_to_json", "to_jsonb", "json_build_array"])
def test_a_column_that_is_gone_is_not_taken_for_a_function(base: Database, name: str) -> None:
    attached(base, f"{name} int, mood evil.mood default 'bad'", name)
    as_mallory(base, f"alter table evil.t rename {name} to id", "insert into evil.t values (5)")
    assert keys(base) == [{"id": 5}]
    as_mallory(base, "alter table evil.t drop id", "insert into evil.t default values")
    assert keys(base)[1:] == [None]
    assert ran_as(base) is None


def test_a_type_changed_behind_a_writers_snapshot_runs_nothing_with_our_rights(base: Database) -> None:
    attached(base, "id evil.mood", "id")
    base.run("truncate pgreact.queue")
    as_mallory(base, "alter table evil.t alter id type int using 1")
    base.run(f"select pgreact.attach('evil.t', enqueue => '{TASK}')")
    with base.connect(autocommit=False) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        writer.execute("set role mallory")
        writer.execute("select count(*) from pg_class")
        as_mallory(base, "alter table evil.t alter id type evil.mood using 'bad'")
        writer.execute("insert into evil.t values ('good')")
        writer.commit()
    assert keys(base) == [{"id": "good"}]
    assert ran_as(base) is None


def test_a_condition_runs_with_the_writers_rights(base: Database) -> None:
    as_mallory(
        base,
        "create table evil.t (id int primary key)",
        "create function evil.chosen(int) returns boolean language plpgsql as $$"
        "begin insert into evil.log values (current_user); return true; end$$",
    )
    base.run(
        f"select pgreact.attach('evil.t', enqueue => '{TASK}', events => '{{insert}}', "
        "condition => 'evil.chosen(new.id)')",
        "insert into pgreact.route (name, task) values ('r', 't')",
        "select pgreact.attach('evil.t', 'r', '{insert}', 'evil.chosen(new.id)')",
    )
    assert ran_as(base) is None
    as_mallory(base, "insert into evil.t values (1)")
    assert len(keys(base)) == 1
    assert ran_as(base) == ["mallory"]
