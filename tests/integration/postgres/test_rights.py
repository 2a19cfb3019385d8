"""Code of a user never runs with the rights of pgreact's owner, here a superuser."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.harness import Database

Install = Callable[..., None]

TASK = "proj.changed"


@pytest.fixture
def base(each_database: Database, installed: Install) -> Iterator[Database]:
    """A database with pgreact, which a superuser owns, and a role ``mallory`` with a type and its cast."""
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
    """Return the role that the cast ran as."""
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
def test_a_type_given_to_a_key_later_runs_no_code_of_its_owner_with_pgreacts_rights(
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
def test_a_dropped_column_is_not_taken_for_a_function(base: Database, name: str) -> None:
    attached(base, f"{name} int, mood evil.mood default 'bad'", name)
    as_mallory(base, f"alter table evil.t rename {name} to id", "insert into evil.t values (5)")
    assert keys(base) == [{"id": 5}]
    as_mallory(base, "alter table evil.t drop id", "insert into evil.t default values")
    assert keys(base)[1:] == [None]
    assert ran_as(base) is None


def test_a_type_changed_behind_a_writers_snapshot_runs_no_code_with_pgreacts_rights(base: Database) -> None:
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


# ---- what all functions have in common ---------------------------------------------------------------------


def functions(base: Database) -> list[tuple[str, bool, list[str], str, str]]:
    """Return of each function its name, whether it runs as its owner, settings, body and language.

    ``clock_now()`` is left out: its body is no text, but bound to what it calls when it is created.
    """
    with base.connect() as connection:
        return connection.execute(
            "select p.oid::regprocedure::text, p.prosecdef, p.proconfig, p.prosrc, l.lanname::text "
            "from pg_proc p join pg_language l on l.oid = p.prolang "
            "where p.pronamespace = 'pgreact'::regnamespace and p.prokind <> 'a' and p.prosqlbody is null "
            "order by 1"
        ).fetchall()


def test_a_function_finds_what_it_calls_in_the_catalogue_alone(base: Database) -> None:
    found = functions(base)
    assert len(found) > 50
    for name, _definer, config, _body, language in found:
        assert "search_path=pg_catalog, pg_temp" in (config or []), name
        assert language in {"sql", "plpgsql"}, name


def test_functions_without_grants_are_callable_by_their_owner_alone(base: Database) -> None:
    with base.connect() as connection:
        callers = connection.execute(
            "select p.oid::regprocedure::text, a.grantee::regrole::text from pg_proc p "
            "cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
            "where p.pronamespace = 'pgreact'::regnamespace and a.grantee <> p.proowner"
        ).fetchall()
        owners = connection.execute(
            "select count(distinct p.proowner), bool_and(p.proowner = n.nspowner) from pg_proc p "
            "join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'pgreact'"
        ).fetchone()
    assert callers == []
    assert owners == (1, True)


def test_security_definer_functions_take_and_call_built_in_types_alone(base: Database) -> None:
    taken = base.value(
        "select array_agg(distinct t.oid::regtype::text) from pg_proc p "
        "cross join unnest(p.proargtypes || p.prorettype) a (type) join pg_type t on t.oid = a.type "
        "where p.pronamespace = 'pgreact'::regnamespace and p.prosecdef "
        "and (t.oid >= 16384 or t.typtype = 'p' and t.typname not in ('trigger', 'void', 'record'))"
    )
    assert taken is None


def test_no_function_reads_a_backslash_otherwise_where_standard_strings_are_off(base: Database) -> None:
    for name, _definer, _config, body, _language in functions(base):
        code = re.sub(r"--[^\n]*", "", body)
        plain = re.sub(r"\bE'(?:[^'\\]|\\.|'')*'", "", code)
        assert "\\" not in plain, name


HOSTILE = {
    "search_path": "evil, public",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "plpgsql.extra_errors": "all",
    "plpgsql.extra_warnings": "all",
    "plpgsql.variable_conflict": "use_variable",
    "plpgsql.check_asserts": "off",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "<x>-3:30y",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "xmloption": "document",
    "row_security": "off",
    "check_function_bodies": "off",
    "default_transaction_isolation": "serializable",
    "enable_seqscan": "off",
}
# what users' own sessions call, in order; of each the answer, or the error
CALLS = [
    "select pgreact.enqueue('t', '[1]', '{\"a\": 1}', run_at => '2030-01-02 03:04:05Z', key => 'k')",
    "select pgreact.enqueue('t', unique_key => 'u'), pgreact.enqueue('t', unique_key => 'u')",
    "select pgreact.enqueue('t', backoff => '-1 day')",
    "select pgreact.enqueue('t', options => '{\"nope\": 1}')",
    "select pgreact.enqueue('t', lane => 'nope')",
    """select id from pgreact.enqueue_many('[{"task": "b", "key": "k"},
        {"task": "a", "run_at": "2030-01-02T03:04:05Z", "backoff": "2 s"}]')""",
    "select pgreact.enqueue_many('[{\"nope\": 1}]')",
    "select pgreact.cancel(2), pgreact.cancel(99), pgreact.retry(1), pgreact.retry(99)",
    "insert into pgreact.route (name, task) values ('r', 't')",
    "select pgreact.attach('public.plain', 'r', '{insert,update,delete,truncate}')",
    "select pgreact.attach('public.plain', 'r', '{insert}', 'new.name = ''a'' -- only those')",
    "update pgreact.route set gate = 'open' where name = 'r'",
    "select pgreact.attach('public.plain', enqueue => 't')",
    "select pgreact.attach('public.plain', enqueue => 't', condition => 'nope')",
    "insert into public.plain values (1, 'a'), (2, 'b')",
    "update public.plain set name = 'c'",
    "select pgreact.signal('r'), pgreact.signal('nope')",
    "select pgreact.detach('public.plain', enqueue => 't')",
    "select pgreact.detach('public.plain', 'r')",
    "delete from pgreact.route where name = 'r'",
    *(
        f"insert into pgreact.schedule (name, task, {how}) values ('{number}', 't', '{value}')"
        for number, (how, value) in enumerate(
            [
                ("cron", "*/5 0-6 * * mon-fri"),
                ("cron", "0 9 l * *"),
                ("cron", "0 9 ? * *"),
                ("cron", "61 * * * *"),
                ("every", "1 hour"),
                ("every", "1 month"),
                ("solar", "sunset 48.86 2.35"),
                ("solar", "sunset 98.86 2.35"),
                ("rrule", "FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20301231T235959Z"),
                ("rrule", "FREQ=MONTHLY;BYDAY=9FR"),
                ("cron, timezone", "0 9 * * *'', ''Europe/Paris".replace("''", "'")),
                ("cron, timezone", "0 9 * * *'', ''UTC+3".replace("''", "'")),
                ("at, end_at", "2030-01-02 03:04:05Z'', ''2020-01-02 03:04:05Z".replace("''", "'")),
            ]
        )
    ),
    "update pgreact.schedule set every = '2 hours', next_run_at = null where name = '4'",
    "select pgreact.grant_role('mallory', 'enqueuer'), pgreact.grant_role('mallory', 'boss')",
    'select name, state, run_count from pgreact.schedule order by name collate "C"',
    """select id, state, lane, task, args::text, kwargs::text, key, unique_key, max_attempts,
        extract(epoch from backoff)::text, options::text, extract(epoch from run_at) > 1.8e9
        from pgreact.queue order by id""",
    "select pgreact.purge()",
]


def told(base: Database, defaults: dict[str, str]) -> list[Any]:
    """Return the result of each of ``CALLS`` in a session with these settings."""
    found: list[Any] = []
    with base.connect() as connection:
        for name, value in defaults.items():
            connection.execute("select pg_catalog.set_config(%s, %s, false)", (name, value))
        for call in CALLS:
            try:
                with connection.transaction():
                    cursor = connection.execute(call.encode())
                    found.append(cursor.fetchall() if cursor.description else cursor.rowcount)
            except psycopg.Error as error:
                # an interval in it is for people, as they have set it
                said = re.sub(r" is (P\S+|-?1 \w+)\b", " is …", error.diag.message_primary or "")
                found.append((error.sqlstate, said, error.diag.message_hint))
    return found


def test_calls_and_triggers_do_not_depend_on_the_settings_of_their_session(
    base: Database, installed: Install
) -> None:
    base.run("create table public.plain (id int primary key, name text)")
    usual = told(base, {})
    base.run(
        "drop schema pgreact cascade",
        "drop table public.plain",
        "create table public.plain (id int primary key, name text)",
    )
    installed(base, {})
    otherwise = told(base, HOSTILE)
    assert dict(zip(CALLS, otherwise, strict=True)) == dict(zip(CALLS, usual, strict=True))
    assert sum(isinstance(answer, tuple) for answer in usual) >= 10  # what is refused is so in the same words
