"""``delay()`` in Django's transactions: views, savepoints, several databases, async code, and a worker."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from asgiref.sync import sync_to_async
from celery import chord, group
from celery.result import AsyncResult
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from psycopg.conninfo import conninfo_to_dict

from pgreact.demo.postgres import EmbeddedPostgres
from tests import django_project, hostile
from tests.harness import Daemon, Database
from tests.worker import ROOT, Worker

django_project.setup()

from orders.models import Order  # noqa: E402 - needs the settings

from tests import django_delay_app  # noqa: E402
from tests.django_delay_app import email_of, place  # noqa: E402

WAIT = 20


@pytest.fixture(scope="module")
def cluster(
    postgres: EmbeddedPostgres,
    migrated: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    _defaults: None,
) -> Iterator[Database]:
    """A database of the Django project with a daemon and a worker."""
    name, queue = f"t_{uuid4().hex[:12]}", f"q_{uuid4().hex[:12]}"
    database = Database(postgres.dsn(dbname=name))
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name} template {migrated}".encode())
        hostile.give(database.dsn)
        where = conninfo_to_dict(database.dsn)
        environ = {
            "PGREACT_DSN": database.dsn,
            "TASK_BROKER": redis_url,
            "TASK_QUEUE": queue,
            "PYTHONPATH": f"{ROOT}:{django_project.ROOT}",
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            **{
                f"PG{key.upper()}": str(where[key if key != "database" else "dbname"])
                for key in ("database", "user", "password", "host", "port")
            },
        }
        app = django_delay_app.app
        app.conf.update(broker_url=redis_url, result_backend=redis_url, task_default_queue=queue)
        worker = Worker(redis_url, queue, "prefork", 2, environ, app="tests.django_delay_app")
        daemon = Daemon(
            database.dsn,
            redis_url,
            cwd=tmp_path_factory.mktemp("delay"),
            environ={**environ, "PGREACT_APP": "tests.django_delay_app"},
        )
        try:
            worker.wait_for_log(" ready.", 60)
            daemon.ready()
            yield database
        finally:
            gc.collect()  # Celery's results unsubscribe, which needs the backend
            app.close()
            daemon.kill()
            worker.stop()
            admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def running(cluster: Database) -> Iterator[Database]:
    """That database as ``default``."""
    with django_project.database(cluster.dsn):
        yield cluster


def order(email: str = "a@example.org") -> Order:
    return Order.objects.create(email=email, total=1)


def committed(database: Database) -> list[Any]:
    """Return the arguments of the committed jobs, in order."""
    with database.connect() as connection:
        return [args[0] for (args,) in connection.execute("select args from pgreact.queue order by id")]


# ---- with a worker -----------------------------------------------------------------------------------------


def test_a_call_runs_after_the_commit_and_sees_the_order(running: Database) -> None:
    with transaction.atomic():
        result = email_of.delay(order("new@example.org").pk)
        assert committed(running) == []
    assert result.get(timeout=WAIT) == "new@example.org"


def test_canvases_run_after_the_commit(running: Database) -> None:
    with transaction.atomic():
        pk = order("c@example.org").pk
        each = group(email_of.s(pk), email_of.s(0)).apply_async()
        body = chord([email_of.s(pk)])(place.si("body@example.org"))
    assert each.get(timeout=WAIT) == ["c@example.org", None]
    last = AsyncResult(body.get(timeout=WAIT), app=django_delay_app.app)
    assert last.get(timeout=WAIT) == "body@example.org"


def test_a_worker_calls_in_its_own_transactions(running: Database) -> None:
    kept = place.delay("kept@example.org").get(timeout=WAIT)
    dropped = place.delay("dropped@example.org", fail=True).get(timeout=WAIT)
    last = place.delay("last@example.org").get(timeout=WAIT)
    results = [AsyncResult(task_id, app=django_delay_app.app) for task_id in (kept, dropped, last)]
    assert results[0].get(timeout=WAIT) == "kept@example.org"
    assert results[2].get(timeout=WAIT) == "last@example.org"
    assert results[1].state == "PENDING"


# ---- which transaction -------------------------------------------------------------------------------------


def test_a_rollback_takes_its_calls(shop: Database) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        email_of.delay(1)
        raise ZeroDivisionError
    assert committed(shop) == []


def test_a_savepoint_that_rolls_back_takes_its_calls(shop: Database) -> None:
    with transaction.atomic():
        email_of.delay(1)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            email_of.delay(2)
            raise ZeroDivisionError
        with transaction.atomic():
            email_of.delay(3)
    assert committed(shop) == [1, 3]


def test_a_call_outside_a_transaction_is_a_job_at_once(shop: Database) -> None:
    email_of.delay(1)
    assert committed(shop) == [1]


def test_a_call_on_commit_is_a_job_after_the_commit(shop: Database) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: email_of.delay(1))
        email_of.delay_on_commit(2)  # type: ignore[attr-defined]
        email_of.apply_async_on_commit((3,), priority=5)  # type: ignore[attr-defined]
        assert shop.value("select count(*) from pgreact.queue") == 0
    assert committed(shop) == [1, 2, 3]


def test_a_transaction_that_must_roll_back_refuses_calls(shop: Database) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            email_of.delay(1)
    assert committed(shop) == []


def ordered(request: HttpRequest) -> HttpResponse:
    """A view that calls a task, and fails if the request says so."""
    email_of.delay(order().pk)
    if "fail" in request.GET:
        raise ZeroDivisionError
    return HttpResponse()


urlpatterns = [path("order", ordered)]


def test_a_request_is_a_transaction_with_atomic_requests(shop: Database) -> None:
    entry = django_project.entry(shop.dsn, ATOMIC_REQUESTS=True)
    with (
        django_project.databases({"default": entry}),
        override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]),
    ):
        client = Client(raise_request_exception=False)
        assert client.get("/order").status_code == 200
        assert client.get("/order?fail=1").status_code == 500
    assert len(committed(shop)) == 1


def test_each_thread_has_its_own_transaction(shop: Database) -> None:
    def call() -> None:
        email_of.delay(2)
        connections.close_all()

    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        email_of.delay(1)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert committed(shop) == [2]


def test_only_the_transaction_of_the_database_of_pgreact_counts(shop: Database) -> None:
    with (
        django_project.database(shop.dsn, "jobs"),
        override_settings(PGREACT={"DATABASE": "jobs"}),
    ):
        with contextlib.suppress(ZeroDivisionError), transaction.atomic(using="default"):
            email_of.delay(1)  # "jobs" is in autocommit mode
            raise ZeroDivisionError
        with contextlib.suppress(ZeroDivisionError), transaction.atomic(using="jobs"):
            email_of.delay(2)
            raise ZeroDivisionError
        assert committed(shop) == [1]


def test_a_database_that_is_not_postgres_is_refused() -> None:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with (
        django_project.databases({"default": entry}),
        pytest.raises(TypeError, match="which is sqlite, not PostgreSQL"),
    ):
        email_of.delay(1)


# ---- async code --------------------------------------------------------------------------------------------


def test_async_code_is_told_to_use_sync_to_async(shop: Database) -> None:
    @sync_to_async
    def whole_transaction() -> None:
        with transaction.atomic():
            email_of.delay(order().pk)
        connections.close_all()

    async def view() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
            email_of.delay(1)
        await sync_to_async(email_of.delay)(2)
        await whole_transaction()

    asyncio.run(view())
    assert len(committed(shop)) == 2
