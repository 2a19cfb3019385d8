"""pgreact's own migration, the steps after ``migrate``, and the operations that attach tables."""

import io
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, models, transaction
from django.db import migrations as django_migrations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.optimizer import MigrationOptimizer
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from django.test import override_settings

from pgreact import settings
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.django import conf
from pgreact.django.operations import AttachOutbox, AttachRoute, DetachOutbox, DetachRoute
from pgreact.django.schema import UpgradeSchema, is_complete
from pgreact.errors import ConfigError
from pgreact.postgres import migrations
from tests import django_project
from tests.catalog import catalog
from tests.harness import Database, fresh_database, install

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


@pytest.fixture(autouse=True)
def _set_up() -> None:
    django_project.setup()


@pytest.fixture
def empty(database: Database) -> Iterator[Database]:
    """An empty database that is the project's ``default``."""
    with django_project.database(database.dsn):
        yield database


@pytest.fixture
def configured() -> Iterator[None]:
    """Let pgreact read ``settings.PGREACT``, as in a project."""
    settings.use(conf.given)
    yield
    settings.use(None)


def migrate(*arguments: str, **options: Any) -> str:
    """Run ``migrate``; return its output."""
    out = io.StringIO()
    call_command("migrate", *arguments, **{"stdout": out, **options})
    return out.getvalue()


def own(database: Database) -> dict[str, list[str]]:
    """Describe all objects but Django's."""
    found = catalog(database, rows=True)
    del found["counts"]
    return {part: [line for line in lines if "django_" not in line] for part, lines in found.items()}


def run(operation: Any, *, back: bool = False, atomic: bool = True) -> None:
    """Run an operation of a migration of the app ``orders``."""
    state = ProjectState.from_apps(apps)
    with connection.schema_editor(atomic=atomic) as editor:
        step = operation.database_backwards if back else operation.database_forwards
        step("orders", editor, state, state)


def watched(database: Database, route: str = "probe") -> list[tuple[Any, ...]]:
    """Return the attached events of a route, with what decides them."""
    with database.connect() as session:
        found: list[tuple[Any, ...]] = session.execute(
            "select w.relation::text, w.event, w.condition, w.changed, w.always, w.origin, r.task "
            "from pgreact.watched w join pgreact.route r on r.id = w.route_id where r.name = %s "
            "order by w.event",
            (route,),
        ).fetchall()
        return found


def test_migrate_and_apply_make_the_same_schema(each_postgres: EmbeddedPostgres) -> None:
    with fresh_database(each_postgres) as applied, fresh_database(each_postgres) as migrated:
        install(applied, {})
        with django_project.database(migrated.dsn):
            migrate("pgreact", verbosity=0)
        assert own(migrated) == own(applied)


def test_the_printed_sql_makes_the_same_schema(empty: Database, postgres: EmbeddedPostgres) -> None:
    text = io.StringIO()
    call_command("sqlmigrate", "pgreact", "0001", stdout=text, no_color=True)
    empty.run(text.getvalue())
    with fresh_database(postgres) as applied:
        install(applied, {})
        assert own(empty) == own(applied)


@pytest.mark.usefixtures("configured")
def test_a_schema_made_by_apply_is_recorded(empty: Database) -> None:
    install(empty, {"lanes": {"mail": {"max_in_progress": 5}}, "application": "shop"})
    before = own(empty)
    own_migrations = [name for app, name in MigrationLoader(None).disk_migrations if app == "pgreact"]
    for options in ({}, {"fake": True}, {"fake_initial": True}):
        with override_settings(PGREACT={"APPLICATION": "shop", "LANES": {"mail": {"max_in_progress": 5}}}):
            assert "pgreact: " not in migrate("pgreact", **options)
        assert own(empty) == before
        recorded = "delete from django_migrations where app = 'pgreact' returning name"
        with empty.connect() as session:
            assert {name for (name,) in session.execute(recorded.encode())} == {*own_migrations}


def test_every_file_of_the_schema_is_named_by_a_migration() -> None:
    loader = MigrationLoader(None)
    named = [
        name
        for key in sorted(key for key in loader.disk_migrations if key[0] == "pgreact")
        for operation in loader.disk_migrations[key].operations
        if isinstance(operation, UpgradeSchema)
        for name in operation.names
    ]
    assert named == [step.name for step in migrations.migrations()]


def test_the_way_back_uninstalls_and_the_way_forth_installs_again(shop: Database) -> None:
    run(AttachRoute("orders.Order", "probe", task="shop.probe"))
    migrate("pgreact", "zero", verbosity=0)
    assert shop.value("select to_regnamespace('pgreact')") is None
    assert shop.value("select count(*) from pg_trigger where tgname like 'pgreact%%'") == 0
    migrate(verbosity=0)
    assert shop.value("select count(*) from pgreact.migration") == len(migrations.migrations()) + 1


def test_a_newer_schema_and_a_foreign_one_are_refused(empty: Database, shop: Database) -> None:
    shop.run("insert into pgreact.migration (name, checksum) values ('9999_future', '')")
    with pytest.raises(CommandError, match="set up by a newer pgreact"):
        migrate(verbosity=0)
    empty.run("create schema pgreact")
    with django_project.database(empty.dsn), pytest.raises(CommandError, match="that pgreact did not make"):
        migrate("pgreact", verbosity=0)


def test_a_role_that_may_not_read_the_schema_is_told_which_one_migrates(shop: Database) -> None:
    role = f"web_{uuid4().hex[:12]}"
    shop.run(f"create role {role}")
    try:
        with (
            django_project.database(shop.dsn, assume_role=role) as reached,
            pytest.raises(CommandError, match="as the role that owns pgreact's schema"),
        ):
            is_complete(reached)
    finally:
        shop.run(f"drop role {role}")


def test_other_databases_are_left_alone(shop: Database) -> None:
    with django_project.databases({"default": django_project.entry(shop.dsn), "lite": SQLITE}):
        assert "Applying pgreact.0001_initial... OK" in migrate("pgreact", database="lite")


def test_a_database_of_another_kind_is_refused() -> None:
    with (
        django_project.databases({"default": SQLITE}),
        pytest.raises(CommandError, match='"default" is sqlite, and pgreact needs PostgreSQL'),
    ):
        migrate("pgreact", verbosity=0)


@pytest.mark.usefixtures("configured")
def test_the_setting_is_applied_after_the_migrations(empty: Database) -> None:
    given = {"APPLICATION": "shop", "LANES": {"mail": {"max_in_progress": 5}}}
    with override_settings(PGREACT=given):
        migrate("orders", verbosity=0)
        assert empty.value("select to_regnamespace('pgreact')") is None  # not asked for
        plan = migrate("pgreact", plan=True)
        assert "Run the migrations of pgreact's schema: 0001_wakeups" in plan
        assert empty.value("select to_regnamespace('pgreact')") is None
        assert "pgreact: + lane mail: max_in_progress 5\n" in migrate()
        assert "pgreact: " not in migrate()
    empty.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    with override_settings(PGREACT={**given, "LANES": {}}):
        out = migrate()
        assert "pgreact: ~ schema pgreact: functions\n" in out
        assert "pgreact: - lane mail\n" in out
    with (
        override_settings(PGREACT={"APPLICATION": "other"}),
        pytest.raises(CommandError, match='belongs to the application "shop", and this is "other"'),
    ):
        migrate(verbosity=0)


@pytest.mark.usefixtures("configured")
def test_a_table_that_is_not_migrated_yet_delays_the_setting(empty: Database) -> None:
    tables = [{"table": "orders_order", "on": ["insert"]}]
    with override_settings(PGREACT={"ROUTES": {"dispatch": {"task": "shop.dispatch", "tables": tables}}}):
        assert (
            "not applied while migrations are missing: settings.PGREACT: routes.dispatch.tables[0]"
            in migrate("pgreact")
        )
        assert "+ route dispatch: insert on public.orders_order" in migrate()
    tables[0]["table"] = "orders_ordr"
    with (
        override_settings(PGREACT={"ROUTES": {"dispatch": {"task": "shop.dispatch", "tables": tables}}}),
        pytest.raises(CommandError, match='no table "orders_ordr" in the database; did you mean'),
    ):
        migrate(verbosity=0)


def test_flush_applies_nothing(shop: Database) -> None:
    shop.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    call_command("flush", interactive=False, verbosity=0)
    assert shop.value("select checksum from pgreact.migration where name = 'functions'") == "older"


@pytest.mark.parametrize("atomic", [True, False])
def test_a_model_is_attached_to_a_route_and_detached(shop: Database, atomic: bool) -> None:
    attach = AttachRoute(
        "orders.Order",
        "probe",
        task="shop.probe",
        on=("insert", "update"),
        when="new.status <> 'new.status'",
        changed=["status"],
        always=True,
    )
    run(attach, atomic=atomic)
    shared = ("orders_order",), ("new.status <> 'new.status'",), (True, "sql", "shop.probe")
    expected = [
        (*shared[0], event, *shared[1], changed, *shared[2])
        for event, changed in (("insert", None), ("update", ["status"]))
    ]
    assert watched(shop) == expected
    migrate(verbosity=0)  # apply leaves alone what SQL made
    assert watched(shop) == expected
    run(attach, back=True, atomic=atomic)
    assert watched(shop) == []
    assert shop.value("select count(*) from pgreact.route where name = 'probe'") == 0


def test_a_table_is_attached_by_its_quoted_name(shop: Database) -> None:
    shop.run(
        'create schema "odd one"', 'create table "odd one"."Odd ""Table" (id int primary key, "A b" text)'
    )
    name = '"odd one"."Odd ""Table"'
    run(
        AttachRoute(name, "probe", "shop.probe", "update", when="new.\"A b\" = '%s $pgreact$'", changed="A b")
    )
    assert watched(shop) == [
        (name, "update", "new.\"A b\" = '%s $pgreact$'", ["A b"], False, "sql", "shop.probe")
    ]
    run(AttachOutbox(name, "shop.index", lane="default", on="delete"))
    run(DetachOutbox(name, "shop.index"))
    run(DetachRoute(name, "probe", task="shop.probe"))
    assert (
        shop.value(
            "select count(*) from pg_trigger where tgname like 'pgreact%%' and tgrelid = %s::regclass", name
        )
        == 0
    )
    assert shop.value("select count(*) from pgreact.route where name = 'probe'") == 0


def test_detaching_what_is_not_attached_is_an_error(shop: Database) -> None:
    with pytest.raises(Exception, match='"orders_order" does not signal route "nope"'):
        run(DetachRoute("orders.Order", "nope"))
    with pytest.raises(Exception, match='"orders_order" does not enqueue "nope"'):
        run(DetachOutbox("orders.Order", "nope"))


def test_a_route_calls_one_task(shop: Database) -> None:
    with pytest.raises(Exception, match='no route "probe" in'):
        run(AttachRoute("orders.Order", "probe"))
    run(AttachRoute("orders.Order", "probe", task="shop.probe"))
    with pytest.raises(Exception, match=r'route "probe" calls task "shop\.probe", not "shop\.other"'):
        run(AttachRoute("auth.User", "probe", task="shop.other"))
    run(AttachRoute("auth.User", "probe"))
    run(DetachRoute("auth.User", "probe", task="shop.probe"))
    assert shop.value("select task from pgreact.route where name = 'probe'") == "shop.probe"  # still in use


def test_a_configured_route_or_lane_may_not_be_there_yet(shop: Database) -> None:
    given = {"ROUTES": {"probe": {"task": "shop.probe"}}, "LANES": {"slow": {}}}
    with override_settings(PGREACT=given):
        run(AttachRoute("orders.Order", "probe"))
        run(AttachOutbox("orders.Order", "shop.probe", lane="slow"))
        with pytest.raises(Exception, match='no lane "slo"'):
            run(AttachOutbox("orders.Order", "shop.probe", lane="slo"))
    assert {row[-1] for row in watched(shop)} == {"shop.probe"}


def test_fields_become_columns(shop: Database) -> None:
    run(
        AttachRoute(
            "admin.LogEntry",
            "probe",
            task="shop.probe",
            on="update",
            when="new.user is distinct from OLD.\"content_type\" and '  new.user' <> '' -- old.user",
            changed=("user", "content_type_id"),
        )
    )
    [row] = watched(shop)
    assert row[2:4] == (
        "new.\"user_id\" is distinct from OLD.\"content_type_id\" and '  new.user' <> '' -- old.user",
        ["user_id", "content_type_id"],
    )
    with pytest.raises(Exception, match='no field "usr"; did you mean "user"'):
        run(AttachRoute("admin.LogEntry", "probe", changed="usr"))


def test_arguments_that_contradict_each_other_are_refused() -> None:
    for arguments, message in (
        ({"on": "insret"}, "on.0: input should be"),
        ({"on": ("insert", "insert")}, "names an event twice"),
        ({"on": "insert", "changed": "status"}, 'it needs "update" in on'),
        ({"on": "truncate", "when": "true"}, "does not apply to a truncate"),
        ({"on": ()}, "must not be empty"),
        ({"route": "a b"}, "a route's name begins with"),
    ):
        with pytest.raises(ConfigError, match=f"AttachRoute of orders.Order: .*{message}"):
            AttachRoute(**{"table_or_model": "orders.Order", "route": "probe", **arguments})


def test_a_migration_attaches_before_the_schema_is_there(empty: Database) -> None:
    migrate("orders", verbosity=0)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local lock_timeout = '7s'")
        run(AttachOutbox("orders.Order", "shop.index"))
        cursor.execute("show lock_timeout")
        assert cursor.fetchone() == ("7s",)  # as before, for the rest of the migration
    assert empty.value("select count(*) from pgreact.outbox") == 3
    assert "Applying pgreact.0001_initial... OK" in migrate()


def test_attaching_lets_writers_pass_while_it_waits_for_the_table(shop: Database) -> None:
    insert = "insert into orders_order (email, status, total) values ('a@b.example', 'new', 1)"
    with shop.connect(autocommit=False) as holder:
        holder.execute("lock table orders_order in row exclusive mode")

        def attach() -> None:
            with django_project.database(shop.dsn):  # connections belong to a thread
                run(AttachRoute("orders.Order", "probe", task="shop.probe"))

        thread = threading.Thread(target=attach)
        thread.start()
        shop.until(
            "select exists (select from pg_locks where not granted and relation = 'orders_order'::regclass)"
        )
        with shop.connect(options="-c lock_timeout=2s") as writer:
            writer.execute(insert)
        assert thread.is_alive()
        holder.rollback()
    thread.join(20)
    assert len(watched(shop)) == 3


def test_an_operation_and_its_opposite_cancel_each_other() -> None:
    optimize = MigrationOptimizer().optimize
    attach = AttachRoute("orders.Order", "probe", on=("insert",))
    other = django_migrations.AddField("note", "text", models.TextField())
    assert optimize([attach, other, DetachRoute("orders.order", "probe")], "orders") == [other]
    for kept in (
        [attach, DetachRoute("orders.Order", "probe", on=("update",))],
        [attach, DetachRoute("orders.Order", "another")],
        [attach, DetachOutbox("orders.Order", "probe")],
        [
            attach,
            django_migrations.AddField("order", "text", models.TextField()),
            DetachRoute("orders.Order", "probe"),
        ],
    ):
        assert optimize(kept, "orders") == kept


def test_operations_are_written_read_and_described() -> None:
    operation = AttachOutbox("orders.Order", "shop.index", lane="mail", on=("update",), changed=("status",))
    text, imports = OperationWriter(operation, indentation=0).serialize()
    scope: dict[str, Any] = {}
    exec("\n".join([*imports, f"made = {text.rstrip(',')}"]), scope)  # noqa: S102 - as Django does
    assert scope["made"].attachment == operation.attachment
    assert operation.describe() == 'Attach outbox "shop.index": update on orders.Order'
    assert operation.formatted_description().startswith("+ ")
    assert operation.migration_name_fragment == "attach_shop_index_orders_order"
    assert AttachRoute("a", "b").reversible
    assert DetachRoute("a", "b", on="insert").reversible
    assert not DetachRoute("a", "b").reversible


class Closed:
    """A router that keeps pgreact out, as that of django-tenants does where a tenant is migrated."""

    def allow_migrate(self, _db: str, app_label: str, **_: Any) -> bool:
        return app_label != "pgreact"


def test_a_schema_that_a_router_keeps_out_is_missed(empty: Database) -> None:
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Closed"]):
        migrate("orders", verbosity=0)
        with pytest.raises(CommandError, match='a router keeps the app "pgreact" out of it here: run'):
            run(AttachRoute("orders.Order", "probe", task="shop.probe"))


class Elsewhere:
    """A router that keeps the orders in ``other``."""

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return (db == "other") == (app_label == "orders")


def test_a_model_in_another_database_is_refused(shop: Database, database: Database) -> None:
    entries = {"default": django_project.entry(shop.dsn), "other": django_project.entry(database.dsn)}
    with django_project.databases(entries), override_settings(DATABASE_ROUTERS=[f"{__name__}.Elsewhere"]):
        from django.db import connections

        operation = AttachRoute("orders.Order", "probe", task="shop.probe")
        state = ProjectState.from_apps(apps)
        with (
            connections["other"].schema_editor() as editor,
            pytest.raises(
                CommandError, match=r'orders\.Order is in the database "other", and .* in "default"'
            ),
        ):
            operation.database_forwards("orders", editor, state, state)
