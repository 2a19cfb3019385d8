"""Tables that models declare: in migrations, through renames, in test databases, and in system checks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.test import override_settings
from django.test.utils import isolate_apps

import pgreact.django
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.django.constraints import LONGEST_NAME, Outbox, WatchedBy
from pgreact.django.post_migrate import bring_up_to_date
from pgreact.django.trigger_checks import check_declarations, check_triggers
from pgreact.postgres.change import rows
from pgreact.postgres.queries import query
from tests import django_project
from tests.harness import Database, fresh_database
from tests.small_project import SmallProject

# makemigrations with yes to each question
RENAME = """
import sys, django; django.setup()
from django.core.management import call_command
from django.db.migrations.questioner import MigrationQuestioner
MigrationQuestioner.ask_rename_model = MigrationQuestioner.ask_rename = lambda *_: True
call_command("makemigrations", interactive=False)
call_command("migrate")
call_command("makemigrations", check=True)
for command in sys.argv[1:]:
    call_command(*command.split())
"""
FIRST = """
    class Customer(models.Model):
        name = models.TextField()

    @pgreact.django.outbox(enqueue="shop.tasks.index", changed="customer")
    @pgreact.django.watch(
        route="dispatch", task="shop.tasks.dispatch", on=("insert", "update"), changed="status",
        when="new.status = 'paid'"
    )
    class Order(models.Model):
        status = models.CharField(max_length=20)
        customer = models.ForeignKey(Customer, models.CASCADE, null=True)
"""


@pytest.fixture(autouse=True)
def _set_up() -> None:
    django_project.setup()


def health(database: Database) -> list[tuple[str, ...]]:
    """Return table, event and state of each trigger on the users' tables."""
    with database.connect() as session:
        found = [*rows(session, query("trigger_health")), *rows(session, query("queue_outbox"))]
    return sorted(
        (row["table"], row["event"], row["trigger"])
        for row in found
        if not row["table"].startswith("pgreact.")
    )


def expected(table: str, state: str = "ok") -> list[tuple[str, ...]]:
    """Return what :func:`health` returns for the orders."""
    return [(table, event, state) for event in ("delete", "insert", "insert", "update", "update")]


def signals(database: Database, *statements: str) -> list[str]:
    """Return the routes that statements signal, and the tasks that they enqueue."""
    database.run("delete from pgreact.queue")
    with database.connect() as listener:
        listener.execute("listen pgreact")
        database.run(*statements)
        listener.execute("select")
        heard = {note.payload for note in listener.notifies(timeout=0)}
    with database.connect() as session:
        routes = session.execute(
            "select name from pgreact.route where id > 0 and id::text = any (%s) "
            "union all select task from pgreact.queue order by 1",
            ([*heard],),
        ).fetchall()
    return [name for (name,) in routes]


def test_declared_triggers_follow_their_model(database: Database, tmp_path: Path) -> None:
    project = SmallProject(tmp_path, database.dsn)
    project.models(FIRST)
    # pgreact's schema is made by the migration that needs it first; its own then records it
    out = project.manage("makemigrations shop", "migrate shop", "migrate", "makemigrations --check")
    assert "Applying pgreact.0001_initial... OK" in out
    assert health(database) == expected("public.shop_order")
    assert signals(database, "insert into shop_order (status) values ('paid')") == [
        "dispatch",
        "shop.tasks.index",
    ]
    assert signals(database, "update shop_order set status = 'sent'") == []

    # a field is renamed, and another one gets a new column
    changed = FIRST.replace("status", "state").replace("null=True", "null=True, db_column='client'")
    project.models(changed)
    done = project.python(RENAME)
    assert "Rename field status on order to state" in done.out, done
    assert health(database) == expected("public.shop_order")
    assert signals(database, "update shop_order set state = 'paid'") == ["dispatch"]
    assert signals(database, "update shop_order set state = 'paid'") == []
    assert signals(
        database,
        "with c as (insert into shop_customer (name) values ('a') returning id) "
        "update shop_order set client = (select id from c) where false",
        "update shop_order set client = (select max(id) from shop_customer)",
    ) == ["shop.tasks.index"]

    # the model and its table are renamed
    project.models(
        changed.replace("Order", "Purchase") + "        class Meta:\n            db_table = 'odd table'\n"
    )
    done = project.python(RENAME, "migrate shop 0001", "migrate", "check --database default")
    assert "Rename model Order to Purchase" in done.out, done
    assert "Unapplying shop.0002" in done.out, done
    assert "no issues" in done.out, done
    assert health(database) == expected('public."odd table"')
    assert database.value("select attached_as from pgreact.outbox limit 1") == 'public."odd table"'
    assert signals(database, """insert into "odd table" (state) values ('paid')""") == [
        "dispatch",
        "shop.tasks.index",
    ]

    # the model is deleted
    project.models("class Customer(models.Model):\n    name = models.TextField()\n")
    done = project.python(RENAME)
    assert "Delete model Purchase" in done.out, done
    assert health(database) == []
    assert database.value("select count(*) from pgreact.route where id > 0") == 0


def test_a_column_gets_another_type_and_migrations_are_squashed(
    database: Database, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    project = SmallProject(tmp_path, database.dsn)
    project.models(FIRST)
    project.manage("makemigrations shop", "migrate")
    # PostgreSQL refuses another type while a trigger reads the column
    project.models(FIRST.replace("max_length=20", "max_length=40"))
    out = project.manage("makemigrations shop", "migrate", "squashmigrations shop 0002 --noinput")
    assert "to 2 operations" in out
    assert health(database) == expected("public.shop_order")
    assert signals(database, "insert into shop_order (status) values ('paid')") == [
        "dispatch",
        "shop.tasks.index",
    ]
    with fresh_database(postgres) as other:
        out = project.manage("migrate", TEST_NAME=other.value("select current_database()"))
        assert "Applying shop.0001_squashed_0002" in out
        assert health(other) == health(database)


TESTS = """
    from django.db import connection
    from django.test import TestCase, TransactionTestCase
    from shop.models import Order

    def jobs():
        Order.objects.create(status="new")
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from pgreact.queue where task = 'shop.tasks.index'")
            return cursor.fetchone()[0]

    class InTransaction(TestCase):
        def test(self):
            assert jobs() == 1

    class Committed(TransactionTestCase):
        def test(self):
            assert jobs() >= 1
"""


def test_test_databases_have_the_declared_triggers(database: Database, tmp_path: Path) -> None:
    project = SmallProject(tmp_path, database.dsn)
    project.models(FIRST)
    project.write("shop/test_orders.py", TESTS)
    script = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    options = ("-p", "no:asyncio", "-p", "no:cacheprovider", "-q", "--nomigrations")
    done = project.python(script, *options, "shop/test_orders.py")
    assert "2 passed" in done.out, done
    done = project.run("makemigrations shop", "test --parallel 2")
    assert (done.code, "Ran 2 tests" in done.err) == (0, True), done
    assert database.value("select to_regnamespace('pgreact')") is None


@pytest.fixture
def declare() -> Iterator[Callable[..., None]]:
    """Declare on models of the project, until the test's end."""
    before: dict[Any, Any] = {}

    def declare(label: str, **given: Any) -> None:
        model = apps.get_model(label)
        before.setdefault(model, (model._meta.constraints, dict(model._meta.original_attrs)))
        kind = pgreact.django.watch if "route" in given else pgreact.django.outbox
        kind(model, **given)

    yield declare
    for model, (constraints, attributes) in before.items():
        model._meta.constraints = constraints
        model._meta.original_attrs = attributes


@pytest.fixture
def project() -> Iterator[None]:
    """Let models be defined in the app ``orders``."""
    with isolate_apps("orders"):
        yield


def reports(found: list[Any]) -> list[str]:
    return [f"{message.id}: {message.msg}" for message in found]


def test_a_missing_trigger_is_reported_and_attached_again(
    shop: Database, declare: Callable[..., None]
) -> None:
    declare("orders.Order", route="probe", task="shop.probe", on="insert")
    declare("orders.Order", enqueue="shop.probe", on="delete")
    assert reports(check_triggers(databases=["default"])) == [
        'pgreact.W201: route "probe": insert: not attached',
        'pgreact.W201: outbox "shop.probe": delete: not attached',
    ]
    assert check_triggers(databases=["other"]) == check_triggers() == []
    bring_up_to_date(using="default", verbosity=0, apps=apps, plan=[])
    assert check_triggers(databases=["default"]) == []
    apps.get_model("orders.Order")(email="a@b.example", total=1).full_clean()  # no constraint on its values
    trigger = shop.value(
        "select tgname from pg_trigger where tgrelid = 'orders_order'::regclass and tgname ~ '_insert$'"
    )
    shop.run(f"drop trigger {trigger} on orders_order", "alter table orders_order disable trigger user")
    assert reports(check_triggers(databases=["default"])) == [
        'pgreact.W201: route "probe": insert: missing',
        'pgreact.W201: outbox "shop.probe": delete: disabled',
    ]
    bring_up_to_date(using="default", verbosity=0, apps=apps, plan=[])
    assert check_triggers(databases=["default"]) == []
    shop.run("update pgreact.route set task = 'shop.other' where name = 'probe'")
    with pytest.raises(
        CommandError, match=r'orders\.Order: route "probe": route "probe" calls task "shop\.other"'
    ):
        bring_up_to_date(using="default", verbosity=0, apps=apps, plan=[])


def test_mistakes_are_found_by_the_system_checks(shop: Database, declare: Callable[..., None]) -> None:
    declare("auth.User", route="probe", task="shop.probe")
    declare("orders.Order", route="probe", task="shop.probe", on="insert")
    declare("orders.Order", route="probe", task="shop.probe", on=("insert", "update"), changed="stattus")
    declare("orders.Order", enqueue="shop.probe", when="new.statu is null or new.total > 0")
    tables = [{"table": "orders_order", "on": ["insert"]}]
    given = {
        "ROUTES": {"probe": {"task": "shop.other", "tables": tables}},
        "OUTBOX": [{"table": "public.orders_order", "enqueue": "shop.probe"}],
    }
    with override_settings(PGREACT=given, TENANT_APPS=["pgreact.django"]):
        found = reports(check_declarations())
    assert sorted(set(found)) == [
        *(line for line in found if line.startswith('pgreact.E201: route "probe": the migrations of auth')),
        'pgreact.E202: outbox "shop.probe": the table has no field "statu"; did you mean "status"?.',
        'pgreact.E202: route "probe": the table has no field "stattus"; did you mean "status"?.',
        'pgreact.E204: route "probe" calls shop.probe here, and shop.other in settings.PGREACT.',
        'pgreact.E205: outbox "shop.probe": settings.PGREACT names orders_order, too.',
        'pgreact.E205: route "probe": settings.PGREACT names orders_order, too.',
        "pgreact.E206: TENANT_APPS has pgreact.django, whose schema exists once in a database.",
        'pgreact.E207: route "probe": insert is declared 2 times.',
    ]
    with override_settings(PGREACT={}):
        assert not [line for line in reports(check_declarations()) if line.startswith("pgreact.E205")]


class Apart:
    """A router that keeps the orders out of ``default``."""

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return (db == "other") == (app_label == "orders")


def test_a_model_in_another_database_is_an_error(shop: Database, declare: Callable[..., None]) -> None:
    declare("orders.Order", route="probe", task="shop.probe")
    entries = {"default": django_project.entry(shop.dsn), "other": django_project.entry(shop.dsn)}
    with django_project.databases(entries), override_settings(DATABASE_ROUTERS=[f"{__name__}.Apart"]):
        [found] = reports(check_declarations())
    assert found.startswith(
        'pgreact.E203: orders.Order is in the database "other", and pgreact\'s schema in "default"'
    )


@pytest.mark.usefixtures("project")
def test_a_model_without_a_table_of_its_own_is_refused() -> None:
    class Base(models.Model):
        class Meta:
            app_label = "orders"
            abstract = True

    class Real(Base):
        friends = models.ManyToManyField("self")

        class Meta:
            app_label = "orders"

    class Stand(Real):
        class Meta:
            app_label = "orders"
            proxy = True

    class Legacy(models.Model):
        class Meta:
            app_label = "orders"
            managed = False

    for model, message in (
        (Base, r"Base is abstract and has no table: declare it on each model that inherits"),
        (Stand, r"orders\.Stand is a proxy without a table: declare it on orders\.Real"),
        (Legacy, r"orders\.Legacy is not managed by migrations of its own: .*: 'orders_legacy'"),
        (Real.friends.through, r"orders\.Real_friends is not managed by migrations of its own"),
    ):
        with pytest.raises(ImproperlyConfigured, match=message):
            pgreact.django.watch(model, route="probe")
    with pytest.raises(ImproperlyConfigured, match=r'orders\.Real: route "probe": changed names columns'):
        pgreact.django.watch(Real, route="probe", on="insert", changed="id")
    assert pgreact.django.watch(Real, route="probe") is pgreact.django.watch(route="probe")(Real) is Real
    assert [c.name[:-8] for c in Real._meta.constraints] == ["watch_orders_real_probe_"]


@pytest.mark.usefixtures("project")
def test_names_are_unique_and_short() -> None:
    class Thing(models.Model):
        class Meta:
            app_label = "orders"

    for target in ("a.b", "a_b", "A.b", "ä.b", "x" * 200, "x" * 201):
        pgreact.django.outbox(Thing, enqueue=target)
        pgreact.django.outbox(Thing, enqueue=target, on="truncate")
    names = {constraint.name for constraint in Thing._meta.constraints}
    assert len(names) == 12
    assert max(map(len, names)) <= LONGEST_NAME


def test_a_constraint_survives_renames_within_its_migration(shop: Database) -> None:
    constraints = [
        WatchedBy(name="w", route="probe", task="shop.probe", on=("update",), changed=("status",)),
        Outbox(name="o", enqueue="shop.probe"),
    ]
    operations = [
        migrations.CreateModel(
            "Thing",
            [("id", models.BigAutoField(primary_key=True)), ("status", models.TextField(db_default="x'y%s"))],
            {"constraints": constraints},
        ),
        migrations.RenameField("Thing", "status", "state"),
        migrations.RenameModel("Thing", "Item"),
        migrations.RemoveConstraint("Item", "o"),
    ]
    state = ProjectState()
    with connection.schema_editor() as editor:
        for operation in operations:
            after = state.clone()
            operation.state_forwards("orders", after)
            operation.database_forwards("orders", editor, state, after)
            state = after
    assert health(shop) == [("public.orders_item", "update", "ok")]
    assert shop.value("select changed from pgreact.watched where route_id > 0") == ["state"]
