"""The example project: its own tests, and all its processes together."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from django.core.management import call_command
from django.test import Client

from tests import django_project
from tests.django_project import ROOT, environment, manage
from tests.harness import Daemon, Database
from tests.worker import Worker


def test_an_order_is_worked_off_by_the_processes_of_the_readme(
    database: Database, redis_url: str, daemons: Callable[..., Daemon]
) -> None:
    environ = environment(database.dsn, redis_url)
    done = manage("migrate", "-v0", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    daemon = daemons(None, None, environ=environ, program=(str(ROOT / "manage.py"), "pgreact"))
    worker = Worker(redis_url, "shop", "solo", 1, environ, app="shop")
    try:
        done = manage("check", "--database", "default", environ=environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "System check identified no issues (0 silenced).\n"
        daemon.ready()
        with django_project.database(database.dsn):
            from orders.models import Order, Product

            answer = Client().post("/orders/", {"email": "ann@example.org", "total": "12.50"})
            assert answer.status_code == 201
            database.until("select receipt_sent_at is not null from orders_order")
            Order.objects.update(status=Order.Status.PAID)
            database.until("select status = 'packed' from orders_order")
            Product.objects.create(name="Teapot", price=24)
            database.until("select count(*) = 1 from orders_searchentry")
            assert Client().get("/search/", {"q": "tea"}).json() == {"products": ["Teapot"]}
        assert daemon.stop() == 0
        assert daemon.seen("daemon.stopped")[0]["reason"] == signal.Signals.SIGTERM.name
    finally:
        worker.stop()


def test_the_tests_of_the_example_pass(database: Database) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:asyncio",
        ],
        cwd=ROOT,
        env={**os.environ, **environment(database.dsn)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_the_migrations_of_the_example_are_complete(
    shop: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("makemigrations", "--check", "--dry-run")
    assert capsys.readouterr().out == "No changes detected\n"


def test_the_pages_of_the_example_answer(shop: Database) -> None:
    from django.contrib.auth.models import User

    client = Client()
    assert client.get("/").status_code == 200
    client.force_login(User.objects.create_superuser("admin"))
    for page in ("order/", "order/add/", "product/", "searchentry/"):
        assert client.get(f"/admin/orders/{page}").status_code == 200
