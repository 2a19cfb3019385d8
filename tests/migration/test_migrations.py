"""A migrated schema equals a fresh one, and grants nothing to PUBLIC."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import psycopg
import pytest

import pgreact
from pgreact import apply
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.postgres import migrations
from pgreact.postgres.advisory_lock import Purpose
from pgreact.postgres.queries import folder
from pgreact.settings import Settings
from tests.catalog import catalog
from tests.harness import Database

STEPS = migrations.migrations()


@pytest.fixture(scope="module")
def fresh(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the newest schema, which the tests only read."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute("create database t_fresh_schema")
        database = Database(postgres.dsn(dbname="t_fresh_schema"))
        migrate(database)
        yield database
        admin.execute("drop database t_fresh_schema with (force)")


def migrate(database: Database) -> list[str]:
    with database.connect() as connection:
        return [step.what for step in apply.apply(connection, Settings(), 10.0, lambda _line: None)]


def rows(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [re.fullmatch(r"(\d{4})_[a-z0-9_]+", step.name) for step in STEPS]
    assert [found and int(found[1]) for found in numbers] == list(range(1, len(STEPS) + 1))
    assert {file.suffix for file in (folder("sql") / "migrations").iterdir()} == {".sql"}


@pytest.mark.parametrize("since", range(1, len(STEPS) + 1))
def test_a_migrated_schema_equals_a_fresh_one(fresh: Database, database: Database, since: int) -> None:
    database.run(*(step.script for step in STEPS[:since]))  # as an older release left it
    rest = [*(f"migration {step.name}" for step in STEPS[since:]), "functions"]
    assert migrate(database) == [f"schema pgreact: {what}" for what in rest]
    assert catalog(database, rows=True) == catalog(fresh, rows=True)


def test_the_oldest_supported_server_gets_the_same_schema(fresh: Database, each_database: Database) -> None:
    migrate(each_database)
    ours, theirs = catalog(each_database, rows=True), catalog(fresh, rows=True)
    for part in ("columns", "functions", "triggers", "types", "migrations"):
        assert ours[part] == theirs[part]


def test_functions_can_be_created_again(database: Database, fresh: Database) -> None:
    migrate(database)
    for _ in range(2):
        database.run(migrations.functions().script)
    assert catalog(database, rows=True) == catalog(fresh, rows=True)


def test_a_changed_function_is_a_step_of_the_plan(database: Database) -> None:
    migrate(database)
    database.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    assert migrate(database) == ["schema pgreact: functions"]
    assert migrate(database) == []


def test_every_function_pins_its_search_path(fresh: Database) -> None:
    found = rows(
        fresh,
        "select oid::regproc::text, proconfig from pg_proc where pronamespace = 'pgreact'::regnamespace "
        # an aggregate is its functions; a body that is no text is bound when it is created
        "and prokind <> 'a' and prosqlbody is null",
    )
    assert len(found) >= 10
    assert [name for name, config in found if "search_path=pg_catalog, pg_temp" not in (config or [])] == []


def test_no_object_of_the_schema_is_granted_to_public(fresh: Database) -> None:
    assert (
        rows(
            fresh,
            """
            select object, acl from (
                select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
                from pg_proc where pronamespace = 'pgreact'::regnamespace
                union all
                select oid::regclass::text, coalesce(relacl, acldefault('r', relowner))
                from pg_class where relnamespace = 'pgreact'::regnamespace and relkind <> 'S'
                union all
                select nspname, coalesce(nspacl, acldefault('n', nspowner))
                from pg_namespace where nspname = 'pgreact'
            ) as objects (object, acl), aclexplode(acl) e
            where e.grantee = 0
            """,
        )
        == []
    )


def test_every_object_has_a_comment(fresh: Database) -> None:
    assert (
        rows(
            fresh,
            """
            select oid::regprocedure::text from pg_proc
            where pronamespace = 'pgreact'::regnamespace and obj_description(oid, 'pg_proc') is null
            union all
            select oid::regclass::text from pg_class
            where relnamespace = 'pgreact'::regnamespace and relkind = 'r'
                and obj_description(oid, 'pg_class') is null
            """,
        )
        == []
    )


def test_the_apply_lock_of_python_is_that_of_sql(fresh: Database) -> None:
    number, thing = (int(found) for found in re.findall(r"\d+", migrations.APPLY_LOCK))
    assert (fresh.value("select pgreact.lock_class('apply')"), thing) == (number, 0)


def purposes() -> list[str]:
    text = (folder("sql") / "functions" / "lock_class.sql").read_text(encoding="utf-8")
    return re.findall(r"when '(\w+)' then \d+", text)


def test_lock_classes_are_distinct_and_unknown_purposes_have_none(fresh: Database) -> None:
    assert set(purposes()) >= {"leader", "guard", "apply"}
    classes = [fresh.value("select pgreact.lock_class(%s)", purpose) for purpose in purposes()]
    assert len(set(classes)) == len(classes)
    assert fresh.value("select pgreact.lock_class('nope')") is None


def test_every_lock_purpose_that_is_used_exists() -> None:
    files = [*Path(pgreact.__file__).parent.rglob("*.py"), *folder("sql").rglob("*.sql")]
    used = {
        purpose
        for file in files
        for purpose in re.findall(r"pgreact\.lock_class\('(\w+)'", file.read_text(encoding="utf-8"))
    }
    assert used >= {"leader", "apply"}
    assert used | set(get_args(Purpose)) <= set(purposes())


def test_the_file_of_a_function_bears_its_name() -> None:
    for file in (folder("sql") / "functions").glob("*.sql"):
        made = re.findall(
            r"^create or replace (?:function|aggregate) pgreact\.(\w+)", file.read_text(), re.MULTILINE
        )
        # a second form of one is told apart by what follows its name; watch_queue only calls
        assert made in ([file.stem], [file.stem.removesuffix("_outbox")]) or file.stem == "watch_queue"
