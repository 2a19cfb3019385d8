"""Tenants with a schema each, by django-tenants: one route, a table of each tenant."""

from pathlib import Path

import pytest

from tests.harness import Database
from tests.integration.django.test_watch import health, signals
from tests.small_project import SmallProject

SETTINGS = """
    DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
    DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
    SHARED_APPS = ["django_tenants", "django.contrib.contenttypes", "customers", "pgreact.django"]
    TENANT_APPS = ["shop"]
    INSTALLED_APPS = [*SHARED_APPS, "shop"]
    TENANT_MODEL = "customers.Client"
    TENANT_DOMAIN_MODEL = "customers.Domain"
    PGREACT = {"LANES": {"mail": {"max_in_progress": 5}}}
"""
CUSTOMERS = """
    from django.db import models
    from django_tenants.models import DomainMixin, TenantMixin

    class Client(TenantMixin):
        auto_drop_schema = True

    class Domain(DomainMixin):
        pass
"""
ORDER = """
    @pgreact.django.outbox(enqueue="shop.tasks.index", on="insert")
    @pgreact.django.watch(route="dispatch", task="shop.tasks.dispatch", on="insert")
    class Order(models.Model):
        status = models.TextField()
"""
# commands; a tenant is created (+) or deleted (-)
TENANTS = """
import sys, django; django.setup()
from customers.models import Client
from django.core.management import call_command
from django.db.migrations.questioner import MigrationQuestioner
MigrationQuestioner.ask_rename_model = lambda *_: True
for step in sys.argv[1:]:
    if step[0] == "+":
        Client(schema_name=step[1:]).save(verbosity=0)
    elif step[0] == "-":
        Client.objects.get(schema_name=step[1:]).delete()
    else:
        call_command(*step.split(), **{"interactive": False} if step.startswith("makem") else {})
"""


def attached(*tenants: str) -> list[tuple[str, str, str]]:
    """Return what :func:`health` returns for the orders of these tenants."""
    return [(f"{tenant}.shop_order", "insert", "ok") for tenant in tenants for _ in range(2)]


@pytest.fixture
def project(database: Database, tmp_path: Path) -> SmallProject:
    """A project with tenants."""
    project = SmallProject(tmp_path, database.dsn, SETTINGS)
    project.app("customers")
    project.write("customers/models.py", CUSTOMERS)
    project.models(ORDER)
    return project


def test_each_tenant_signals_the_same_route(database: Database, project: SmallProject) -> None:
    done = project.python(
        TENANTS, "makemigrations customers shop", "migrate_schemas --shared", "+acme", "+best"
    )
    assert "pgreact: + lane mail: max_in_progress 5" in done.out, done
    assert health(database) == attached("acme", "best")
    for tenant in ("acme", "best"):
        insert = f"insert into {tenant}.shop_order (status) values ('new')"
        assert signals(database, insert) == ["dispatch", "shop.tasks.index"]
    assert database.value("select kwargs ->> 'table' from pgreact.queue") == "best.shop_order"

    # a model is renamed, a tenant is deleted, and one is new
    project.models(ORDER.replace("Order", "Purchase"))
    done = project.python(TENANTS, "makemigrations shop", "-acme", "migrate_schemas", "+corp")
    assert done.code == 0, done
    renamed = [(table.replace("order", "purchase"), *rest) for table, *rest in attached("best", "corp")]
    assert health(database) == renamed
    for tenant in ("best", "corp"):
        insert = f"insert into {tenant}.shop_purchase (status) values ('new')"
        assert signals(database, insert) == ["dispatch", "shop.tasks.index"]
    assert database.value("select count(*) from pgreact.route where id > 0") == 1

    # a schema is dropped by hand
    database.run("drop schema best cascade")
    assert "table dropped" in {row[2] for row in health(database)}
    project.manage("migrate_schemas --shared")
    assert {row[0] for row in health(database)} == {"corp.shop_purchase"}
