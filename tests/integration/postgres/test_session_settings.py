"""The command line works the same whatever the defaults of server, database and role."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests import servers
from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.integration.postgres.test_rights import HOSTILE

Install = Callable[..., None]

CONFIGURATION = """
[routes.dispatch]
task = "proj.dispatch"
ready = "select exists (select from job_queue)"

[[routes.dispatch.tables]]
table = "job_queue"
on = ["insert"]
when = "new.status = 'ready' -- only those"

[[outbox]]
table = "job_queue"
enqueue = "proj.changed"

[lanes.mail]
rate = "5/m"

[schedules.nightly]
task = "proj.nightly"
cron = "0 3 * * mon-fri"
timezone = "Europe/Paris"
"""
COMMANDS = [
    ["queue", "list"],
    ["queue", "list", "--json"],
    ["queue", "show", "1"],
    ["queue", "limit", "default", "5"],
    ["schedule", "add", "b", "--task", "t", "--every", "90m", "--retention", "2d"],
    ["schedule", "list"],
    ["schedule", "show", "b"],
    ["schedule", "edit", "b", "--every", "1d"],
    ["schedule", "edit", "b", "--cron", "61 * * * *"],
    ["queue", "cancel", "1"],
    ["queue", "purge", "--yes"],
    ["status"],
    ["uninstall", "--yes"],
]


def default(database: Database, **settings: str) -> None:
    """Give a database defaults."""
    name = psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]
    with database.connect() as connection:
        connection.execute("set default_transaction_read_only = off")
        for key, value in settings.items():
            given = value if key == "search_path" else f"'{value}'"
            connection.execute(f"alter database {name} set {key} = {given}".encode())


def story(database: Database) -> list[Any]:
    """Run all commands; return their output without times."""
    database.run(
        "set default_transaction_read_only = off", "create table job_queue (id int primary key, status text)"
    )
    write(CONFIGURATION)
    told: list[Any] = [apply(database), apply(database)]
    database.run(
        "set default_transaction_read_only = off",
        "select pgreact.enqueue('t', key => 'k', run_at => '2999-01-01Z', backoff => '90 s')",
    )
    told += [tuple(pgreact(*command, dsn=database.dsn)) for command in COMMANDS]
    moving = r"\d{4}-\d\d-\d\d[T ][\d:.]+(\+00:00|Z)?|[0-9a-f-]{36}|\d+(\.\d+)? (s|m|min|h|d)\b"
    return [re.sub(moving, "…", str(one)) for one in told]


@pytest.mark.parametrize("read_only", ["off", "on"])
def test_commands_print_and_do_the_same_under_hostile_defaults(
    each_database: Database, caplog: pytest.LogCaptureFixture, read_only: str
) -> None:
    usual = story(each_database)
    assert "nightly" in usual[0]
    assert "has 1 field" not in usual[0]
    each_database.run("drop table job_queue")
    hostile = {**HOSTILE, "search_path": "public, pg_catalog", "default_transaction_read_only": read_only}
    default(each_database, **hostile)
    assert story(each_database) == usual
    assert caplog.records == []


def test_a_posix_time_zone_of_the_server_warns_of_nothing(
    database: Database, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    installed(database)
    default(database, timezone="<x>-3:30y")
    assert pgreact("queue", "list", dsn=database.dsn).err == ""
    said = pgreact("schedule", "add", "b", "--task", "t", "--at", "2999-01-01T00:00:00Z", dsn=database.dsn)
    assert (said.code, said.err) == (0, "")
    assert "2999-01-01" in pgreact("schedule", "show", "b", dsn=database.dsn).out
    assert caplog.records == []


def test_behind_a_pooler_the_settings_end_with_the_transaction(
    database: Database, installed: Install
) -> None:
    servers.require_or_skip("pgbouncer")
    database.run("create table job_queue (id int primary key, status text)")
    default(database, **{**HOSTILE, "search_path": "public"})
    asked = "select current_setting(name) from unnest(%s::text[]) n (name)"
    names = [*HOSTILE]
    with servers.pgbouncer(database.dsn, default_pool_size="1") as pooler:
        write(CONFIGURATION)
        behind = Database(pooler.url)
        with behind.connect(prepare_threshold=None) as client:
            before = client.execute(asked.encode(), (names,)).fetchall()
            assert ("serializable",) in before
            assert "schedule nightly" in apply(behind)
            assert pgreact("schedule", "list", dsn=behind.dsn).code == 0
            assert client.execute(asked.encode(), (names,)).fetchall() == before


def test_a_function_in_the_search_path_is_not_taken_for_postgresqls(
    each_database: Database, installed: Install
) -> None:
    database = each_database
    installed(database)
    database.run(
        "create schema evil",
        "create table evil.log (ran_as text)",
        "create table evil.job_queue (id int primary key, status text)",
        # closer to what is asked for than the catalogue's own
        *(
            f"create function evil.{name}({types}) returns {result} language plpgsql as "
            f"$$begin insert into evil.log values ('{name}'); return null; end$$"
            for name, types, result in [
                ("format", "text, name, name", "text"),
                ("count", "text", "bigint"),
                ("to_char", "date, text", "text"),
                ("concat_ws", "text, name, text", "text"),
                ("left", "name, integer", "text"),
                ("array_position", "text[], text", "integer"),
            ]
        ),
        "create function evil.same(oid, bigint) returns boolean language plpgsql as "
        "$$begin insert into evil.log values ('='); return true; end$$",
        "create operator evil.= (leftarg = oid, rightarg = bigint, function = evil.same)",
        "create operator evil.<> (leftarg = oid, rightarg = bigint, function = evil.same)",
    )
    default(database, search_path="evil, public")
    write(CONFIGURATION)
    apply(database)  # and finds evil.job_queue by its bare name, as it should
    for command in COMMANDS:
        pgreact(*command, dsn=database.dsn)
    assert database.value("select array_agg(distinct ran_as) from evil.log") is None
