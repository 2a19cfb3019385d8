"""The operations: upgrade, attach, detach, online and as SQL."""

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Column, Integer, MetaData, String, Table
from sqlalchemy.exc import DBAPIError

from pgreact.alembic import outbox, watch
from pgreact.errors import ConfigError
from tests.alembic_project import DRIVERS, Project, lines_of
from tests.catalog import catalog
from tests.harness import Database, install

CONDITION = "new.status <> '100%: \\ done $$'"  # what drivers and dollar quotes may stumble over


def orders(metadata: MetaData, name: str = "orders", schema: str | None = None) -> Table:
    """Return a table of the models."""
    return Table(
        name, metadata, Column("id", Integer, primary_key=True), Column("status", String), schema=schema
    )


def declare(table: Table) -> None:
    """Let the table signal a route and enqueue a task."""
    watch(
        table,
        route="dispatch",
        task="app.dispatch",
        on=("insert", "update"),
        when=CONDITION,
        changed=("status",),
    )
    outbox(table, enqueue="app.tasks.send", lane="mail", on=("insert",))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_generated_revision_upgrades_and_downgrades_with(
    database: Database, tmp_path: Path, driver: str
) -> None:
    project = Project(tmp_path / "migrations", database, driver)
    declare(orders(project.metadata))
    script = project.autogenerate()
    assert lines_of(script, "upgrade")[0] == "op.pgreact_upgrade()"
    assert lines_of(script, "upgrade")[-1] == (
        "op.attach_outbox('orders', 'app.tasks.send', lane='mail', on=('insert',))"
    )
    assert lines_of(script, "downgrade") == [
        "op.detach_outbox('orders', 'app.tasks.send', on=('insert',))",
        "op.detach_route('orders', 'dispatch', task='app.dispatch', on=('insert', 'update'))",
        "op.drop_table('orders')",
        "op.pgreact_uninstall()",
    ]
    project.upgrade()
    project.check()
    database.run("insert into orders (status) values ('new')")
    assert database.value("select task from pgreact.queue where lane = 'mail'") == "app.tasks.send"
    condition = "select min(condition) from pgreact.watched where relation = 'orders'::regclass"
    assert database.value(condition) == CONDITION
    project.downgrade("base")
    assert database.value("select to_regnamespace('pgreact') is null and to_regclass('orders') is null")


def test_the_printed_sql_makes_what_apply_makes_and_can_be_repeated(
    database: Database, ready: Database, tmp_path: Path
) -> None:
    project = Project(tmp_path / "migrations", database, "psycopg2")
    project.write("op.pgreact_upgrade()", "op.pgreact_uninstall()")
    project.write(f"op.attach_outbox('orders', 'app.a', on=('insert',), when={CONDITION!r})")
    database.run(project.sql("r1"))
    ready.run("create table alembic_version (version_num varchar(32) not null)")
    ready.run("alter table alembic_version add constraint alembic_version_pkc primary key (version_num)")
    assert catalog(database) == catalog(ready)
    once = "select array_agg(m order by m.name)::text from pgreact.migration m"
    before = database.value(once)
    database.run("drop table alembic_version", project.sql("r1"))
    assert database.value(once) == before
    database.run("create table orders (id int primary key, status text)", project.sql("r1:r2"))
    assert database.value("select min(condition) from pgreact.outbox") == CONDITION
    database.run("delete from pgreact.outbox", project.sql("r1:base", down=True))
    assert database.value("select to_regnamespace('pgreact') is null")


def test_upgrade_installs_under_hostile_settings_and_restores_them(
    database: Database, tmp_path: Path
) -> None:
    project = Project(tmp_path / "migrations", database)
    name = database.value("select current_database()")
    database.run(
        f"alter database {name} set search_path = shadow, public",
        f"alter database {name} set standard_conforming_strings = off",
        f"alter database {name} set plpgsql.extra_errors = 'all'",
        "create schema shadow",
        "create function shadow.clock_now() returns timestamptz language sql as 'select null::timestamptz'",
    )
    project.write(
        "op.pgreact_upgrade(); op.execute('create table seen as select current_schemas(false) as a')"
    )
    project.upgrade()
    assert database.value("select a from shadow.seen") == ["shadow", "public"]


def test_an_older_schema_is_upgraded_and_a_newer_one_refused(project: Project) -> None:
    database = project.database
    database.run("update pgreact.migration set checksum = 'old' where name = 'functions'")
    script = project.autogenerate()
    assert lines_of(script, "upgrade") == ["op.pgreact_upgrade()"]
    assert lines_of(script, "downgrade") == ["pass"]
    assert "    pass  # schema pgreact stays as it is: its migrations go forward only" in script
    project.upgrade()
    assert database.value("select checksum <> 'old' from pgreact.migration where name = 'functions'")
    assert project.body() == ["pass"]
    project.downgrade("r1")
    database.run("insert into pgreact.migration values ('9999_later', '')")
    with pytest.raises(CommandError, match=r"set up by a newer pgreact \(migration 9999_later\)") as caught:
        project.upgrade()
    assert len(str(caught.value)) < 300
    with pytest.raises(CommandError, match="set up by a newer pgreact"):
        command.check(_at_head(project))


def test_a_schema_that_is_not_of_pgreact_is_refused(database: Database, tmp_path: Path) -> None:
    database.run("create schema pgreact")
    project = Project(tmp_path / "migrations", database)
    project.write("op.pgreact_upgrade()")
    with pytest.raises(CommandError, match="a schema pgreact that pgreact did not make"):
        project.upgrade()


def test_odd_names_of_tables_schemas_columns_and_routes_are_quoted(project: Project) -> None:
    project.database.run('create schema "Odd ""s"', "create schema plain")
    table = Table(
        'a "b" %s :c \'d',
        project.metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),  # Alembic fails at the sequence
        Column("St'a t", String),
        schema='Odd "s',
    )
    project.options["include_schemas"] = True
    watch(table, route="r-1.x", task="it's: %(a)s", on=("update",), changed=("St'a t",))
    outbox(table, enqueue="it's: %(b)s", lane='L "1" %')
    project.autogenerate()
    project.upgrade()
    assert project.body() == ["pass"]
    project.downgrade("r1")
    assert project.database.value("select count(*) from pgreact.watched where route_id > 1") == 0


def test_schemas_are_translated_and_the_search_path_finds_tables_without_one(project: Project) -> None:
    database = project.database
    database.run(
        "create schema tenant",
        "create table tenant.orders (id int primary key)",
        "create table tenant.bills (id int primary key)",
    )
    project.write(
        "op.attach_outbox('orders', 'app.a', schema='per_tenant'); op.attach_outbox('bills', 'app.a')",
        "op.detach_outbox('orders', 'app.a', schema='per_tenant'); op.detach_outbox('bills', 'app.a')",
    )
    project.attributes |= {
        "translate": {"per_tenant": "tenant"},
        "schema": "public",
        "before": ["set search_path = tenant, public"],
    }
    project.upgrade()
    attached = "select string_agg(distinct relation::text, ' ' order by relation::text) from pgreact.outbox"
    assert database.value(attached) == "tenant.bills tenant.orders"
    project.downgrade("r1")
    assert database.value(attached) is None


def test_a_route_keeps_its_settings_and_another_task_is_refused(project: Project) -> None:
    database = project.database
    database.run(
        "create table orders (id int primary key)",
        "insert into pgreact.route (name, task, \"window\") values ('dispatch', 'app.a', '1 s')",
    )
    project.write("op.attach_route('orders', 'dispatch', task='app.a', on=('insert',))")
    project.upgrade()
    assert database.value("select \"window\" = '1 s' from pgreact.route where name = 'dispatch'")
    project.write("op.attach_route('orders', 'dispatch', task='app.b', on=('delete',))")
    with pytest.raises(DBAPIError, match=r'route "dispatch" calls task "app\.a", not "app\.b"'):
        project.upgrade()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("op.attach_route('orders', 'missing', on=('insert',))", 'no route "missing"'),
        ("op.attach_route('nowhere', 'missing', task='a', on=('insert',))", '"nowhere" does not exist'),
        ("op.detach_route('orders', 'missing')", 'does not signal route "missing"'),
        ("op.detach_outbox('orders', 'missing')", 'does not enqueue "missing"'),
        ("op.alter_route('missing', 'a')", 'no route "missing"'),
    ],
)
def test_an_operation_without_its_object_is_refused(project: Project, statement: str, message: str) -> None:
    project.database.run("create table orders (id int primary key)")
    project.write(statement)
    with pytest.raises(DBAPIError, match=message):
        project.upgrade()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("on=('insrt',)", "on.0: input should be 'insert', 'update', 'delete' or 'truncate'"),
        ("on='insrt'", "on.0: input should be 'insert'"),
        ("on=()", "on: must not be empty"),
        ("on=('insert',), changed=('a',)", 'it needs "update" in on'),
        ("on=('truncate',), when='true'", '"when" does not apply to a truncate'),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name(project: Project, arguments: str, message: str) -> None:
    project.write(f"op.attach_route('orders', 'dispatch', {arguments})")
    with pytest.raises(ConfigError, match=re.escape(message)):
        project.upgrade()


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("'insrt'", "on.0: input should be 'insert'"),
        ("('insrt',)", "on.0: input should be 'insert'"),
    ],
)
def test_a_wrong_event_to_detach_is_refused(project: Project, on: str, message: str) -> None:
    project.write(f"op.detach_outbox('orders', 'app.a', on={on})")
    with pytest.raises(ConfigError, match=re.escape(message)):
        project.upgrade()


def test_a_revision_per_transaction_commits_each(project: Project) -> None:
    project.options["transaction_per_migration"] = True
    project.write("op.pgreact_upgrade(); op.execute('create table orders (id int primary key)')")
    project.write("op.attach_outbox('orders', 'app.a')")
    project.write("op.attach_outbox('nowhere', 'app.a')")
    with pytest.raises(DBAPIError, match="nowhere"):
        project.upgrade()
    assert project.database.value("select version_num from alembic_version") == "r3"
    assert project.database.value("select count(*) from pgreact.outbox") == 3


def test_another_database_than_postgres_is_refused(ready: Database, tmp_path: Path) -> None:
    project = Project(tmp_path / "migrations", ready)
    project.url = URL.create("sqlite", database=str(tmp_path / "a.db"))
    declare(orders(project.metadata))
    assert not [line for line in project.body() if "pgreact" in line or "attach" in line]
    project.write("op.pgreact_upgrade()")
    with pytest.raises(CommandError, match="needs PostgreSQL, and this migration runs on sqlite"):
        project.upgrade()


def test_a_database_of_apply_is_recognised(ready: Database, tmp_path: Path) -> None:
    ready.run("create table orders (id serial primary key, status varchar)")
    install(
        ready,
        {
            "routes": {"dispatch": {"task": "app.dispatch"}},
            "outbox": [{"table": "orders", "enqueue": "app.tasks.other"}],
        },
    )
    project = Project(tmp_path / "migrations", ready)
    watch(orders(project.metadata), route="dispatch", on=("insert",))
    script = project.autogenerate()
    assert lines_of(script, "upgrade") == [  # for databases to come
        "op.pgreact_upgrade()",
        "op.attach_route('orders', 'dispatch', on=('insert',))",
    ]
    assert "uninstall" not in script
    project.upgrade()
    assert project.body() == ["pass"]
    project.downgrade("base")
    assert ready.value("select count(*) from pgreact.outbox") == 3


def _at_head(project: Project) -> Config:
    command.stamp(project.config(), "head")
    return project.config()
