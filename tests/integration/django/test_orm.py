"""Jobs in Django's transactions: blocks, savepoints, requests, async code, test cases, several databases."""

import asyncio
import contextlib
import threading
import unittest
from collections.abc import Iterator
from typing import Any

import django.test
import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import ProgrammingError, connection, connections, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests import django_project
from tests.harness import Database, fresh_database, install

django_project.setup()

from orders.models import Order  # noqa: E402 - once Django is set up


class Stop(Exception):
    """What a view raises."""


@pytest.fixture
def queue(module_shop: Database) -> Database:
    """An empty queue and no orders."""
    module_shop.run("truncate pgreact.queue", "truncate orders_order cascade")
    return module_shop


def tasks(database: Database) -> list[str]:
    """Return the tasks of the jobs that other sessions see, in order."""
    with database.connect() as seen:
        return [row[0] for row in seen.execute("select task from pgreact.queue order by id")]


def an_order(**fields: Any) -> Order:
    """Save an order."""
    return Order.objects.create(email="a@example.org", total=1, **fields)


# ---- blocks ------------------------------------------------------------------------------------------------


def test_a_job_shares_the_fate_of_the_rows(queue: Database) -> None:
    with contextlib.suppress(Stop), transaction.atomic():
        an_order()
        pgreact.enqueue(connection, "lost")
        raise Stop
    assert (Order.objects.count(), tasks(queue)) == (0, [])
    with transaction.atomic():
        an_order()
        pgreact.enqueue(connection, "kept")
        assert tasks(queue) == []
    assert (Order.objects.count(), tasks(queue)) == (1, ["kept"])


def test_a_savepoint_takes_its_jobs_with_it(queue: Database) -> None:
    with transaction.atomic():
        pgreact.enqueue(connection, "outer")
        with contextlib.suppress(Stop), transaction.atomic():
            pgreact.enqueue(connection, "inner")
            with transaction.atomic():
                pgreact.enqueue(connection, "innermost")
            raise Stop
        with transaction.atomic():
            pgreact.enqueue(connection, "second")
    assert tasks(queue) == ["outer", "second"]


def test_a_refused_job_spoils_its_savepoint_alone(queue: Database) -> None:
    with transaction.atomic():
        an_order()
        with pytest.raises(ProgrammingError, match='no lane "x"'), transaction.atomic():
            pgreact.enqueue(connection, "t", lane="x")
        pgreact.enqueue(connection, "kept")
    assert (Order.objects.count(), tasks(queue)) == (1, ["kept"])


def test_a_durable_block_is_one(queue: Database) -> None:
    with transaction.atomic(durable=True):
        pgreact.enqueue(connection, "durable")

    @transaction.atomic
    def nested() -> None:
        pgreact.enqueue(connection, "outer")
        with transaction.atomic(durable=True):
            pgreact.enqueue(connection, "inner")

    with pytest.raises(RuntimeError, match="durable"):
        nested()
    assert tasks(queue) == ["durable"]


def test_without_a_block_the_job_exists_at_once(queue: Database) -> None:
    assert connection.get_autocommit()
    pgreact.enqueue(connection, "t")
    assert tasks(queue) == ["t"]


def test_on_commit_still_works(queue: Database) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: pgreact.enqueue(connection, "after"))
        pgreact.enqueue(connection, "with")
    assert tasks(queue) == ["with", "after"]


def test_a_locked_row_and_its_job_are_one_decision(queue: Database) -> None:
    """Of two transactions that lock a row and enqueue if nobody has, one enqueues."""
    order = an_order()

    def take() -> None:
        try:
            with transaction.atomic():
                found = Order.objects.select_for_update().get(pk=order.pk)
                ready.wait(5)
                if found.status == "new":
                    Order.objects.filter(pk=order.pk).update(status="taken")
                    pgreact.enqueue(connection, "take", [order.pk])
        finally:
            connection.close()

    ready = threading.Event()
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.until(
        "select exists (select from pg_stat_activity "
        "where wait_event_type = 'Lock' and datname = current_database())"
    )
    ready.set()
    for thread in threads:
        thread.join()
    assert tasks(queue) == ["take"]


def test_many_rows_and_their_jobs_are_two_statements(queue: Database) -> None:
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        orders = Order.objects.bulk_create([Order(email="a@example.org", total=n) for n in range(50)])
        jobs = pgreact.enqueue_many(connection, [pgreact.Job("t", [order.pk]) for order in orders])
    statements = [each["sql"] for each in captured if each["sql"] not in {"BEGIN", "COMMIT"}]
    assert len(statements) == 2
    assert queue.value("select array_agg(args -> 0 order by id) from pgreact.queue") == [
        order.pk for order in orders
    ]
    assert queue.value("select array_agg(id order by id) from pgreact.queue") == jobs


def test_an_execute_wrapper_sees_the_statement(queue: Database) -> None:
    seen: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        pgreact.enqueue(connection, "t")
    assert len(seen) == 1
    assert "pgreact.enqueue(" in seen[0]


# ---- requests ----------------------------------------------------------------------------------------------


def place(request: HttpRequest) -> HttpResponse:
    """Save an order with its job; fail afterwards if asked to."""
    order = an_order()
    pgreact.enqueue(connection, "view", [order.pk])
    if "fail" in request.GET:
        raise Stop
    return HttpResponse()


@transaction.non_atomic_requests
def place_apart(request: HttpRequest) -> HttpResponse:
    """Do the same without a transaction."""
    return place(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Enqueue in the view, and while the answer is sent."""
    pgreact.enqueue(connection, "view")

    def parts() -> Iterator[str]:
        yield "one"
        pgreact.enqueue(connection, "while sending")
        raise Stop

    return StreamingHttpResponse(parts())


async def place_async(request: HttpRequest) -> HttpResponse:
    """Save an order with its job in one transaction, from an async view."""

    @transaction.atomic
    def save() -> None:
        order = an_order()
        pgreact.enqueue(connection, "view", [order.pk])
        if "fail" in request.GET:
            raise Stop

    await sync_to_async(save)()
    return HttpResponse()


async def place_without_transaction(request: HttpRequest) -> HttpResponse:
    """Save and enqueue from async code, each at once."""
    order = await Order.objects.acreate(email="a@example.org", total=1)
    await pgreact.django.aenqueue("view", [order.pk])
    await pgreact.django.aenqueue_many([pgreact.Job("view", [order.pk])])
    with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
        pgreact.enqueue(connection, "refused")
    return HttpResponse()


urlpatterns = [
    path("place", place),
    path("apart", place_apart),
    path("stream", stream),
    path("async", place_async),
    path("async apart", transaction.non_atomic_requests(place_without_transaction)),
]


@pytest.fixture
def client(queue: Database) -> Iterator[Client]:
    """A client of these views, whose requests are transactions."""
    with override_settings(ROOT_URLCONF=__name__):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        try:
            yield Client(raise_request_exception=False)
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_a_view_that_fails_leaves_no_job(queue: Database, client: Client) -> None:
    assert client.get("/place?fail").status_code == 500
    assert (Order.objects.count(), tasks(queue)) == (0, [])
    assert client.get("/place").status_code == 200
    assert (Order.objects.count(), tasks(queue)) == (1, ["view"])


def test_a_view_apart_from_atomic_requests_enqueues_at_once(queue: Database, client: Client) -> None:
    assert client.get("/apart?fail").status_code == 500
    assert (Order.objects.count(), tasks(queue)) == (1, ["view"])


def test_a_streamed_answer_is_outside_the_transaction_of_its_view(queue: Database, client: Client) -> None:
    answer = client.get("/stream")
    assert tasks(queue) == ["view"]
    with pytest.raises(Stop):
        list(answer)
    assert tasks(queue) == ["view", "while sending"]


def test_an_async_view_puts_its_transaction_into_one_function(queue: Database) -> None:
    async def requests() -> list[int]:
        browser = AsyncClient(raise_request_exception=False)
        return [(await browser.get(url)).status_code for url in ("/async", "/async?fail")]

    with override_settings(ROOT_URLCONF=__name__):
        assert asyncio.run(requests()) == [200, 500]
    assert (Order.objects.count(), tasks(queue)) == (1, ["view"])


def test_async_code_enqueues_without_a_transaction(queue: Database) -> None:
    async def request() -> int:
        return int((await AsyncClient().get("/async apart")).status_code)

    with override_settings(ROOT_URLCONF=__name__):
        assert asyncio.run(request()) == 200
    assert (Order.objects.count(), tasks(queue)) == (1, ["view", "view"])


# ---- databases ---------------------------------------------------------------------------------------------


def test_each_database_has_its_own_transactions(postgres: EmbeddedPostgres, queue: Database) -> None:
    with fresh_database(postgres) as other:
        install(other, {})
        with django_project.databases(
            {"default": django_project.entry(queue.dsn), "jobs": django_project.entry(other.dsn)}
        ):
            with transaction.atomic(using="jobs"), contextlib.suppress(Stop), transaction.atomic():
                pgreact.enqueue(connection, "lost")
                pgreact.enqueue(connections["jobs"], "kept")
                raise Stop
            assert (tasks(queue), tasks(other)) == ([], ["kept"])
            with override_settings(PGREACT={"DATABASE": "jobs"}):
                pgreact.django.enqueue("named by the settings")
                pgreact.django.enqueue("named by the call", using="default")
                pgreact.django.enqueue_many(["many"], using="default")
            assert tasks(queue) == ["named by the call", "many"]
            assert tasks(other) == ["kept", "named by the settings"]


# ---- test cases --------------------------------------------------------------------------------------------


def ran(case: type[unittest.TestCase]) -> None:
    """Run the tests of a class, all of which pass."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun
    assert result.wasSuccessful(), (result.failures + result.errors)[0][1]


def test_a_test_case_takes_its_jobs_back(queue: Database) -> None:
    class Case(django.test.TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            pgreact.enqueue(connection, "of the class")

        def test_one(self) -> None:
            pgreact.enqueue(connection, "of a test")
            assert _own() == ["of the class", "of a test"]

        def test_two(self) -> None:
            pgreact.enqueue(connection, "of a test")
            with self.captureOnCommitCallbacks() as callbacks, self.assertNumQueries(1):
                pgreact.enqueue(connection, "second")
            assert callbacks == []
            assert _own() == ["of the class", "of a test", "second"]

    ran(Case)
    assert tasks(queue) == []


def test_async_code_of_a_test_case_enqueues_in_its_transaction(queue: Database) -> None:
    class Case(django.test.TestCase):
        async def test_one(self) -> None:
            await pgreact.django.aenqueue("one")
            await pgreact.django.aenqueue_many(["two", "three"])
            assert await sync_to_async(_own)() == ["one", "two", "three"]
            assert tasks(queue) == []

    ran(Case)
    assert tasks(queue) == []


def test_a_transaction_test_case_commits(queue: Database) -> None:
    class Case(django.test.TransactionTestCase):
        def test_commits(self) -> None:
            with transaction.atomic():
                pgreact.enqueue(connection, "t")
            assert tasks(queue) == ["t"]

        def _fixture_teardown(self) -> None:
            """Leave out the flush, which would empty the shop's tables only."""

    ran(Case)
    assert tasks(queue) == ["t"]


def _own() -> list[str]:
    """Return the tasks that the session of Django sees."""
    with connection.cursor() as cursor:
        cursor.execute("select task from pgreact.queue order by id")
        return [row[0] for row in cursor.fetchall()]


def test_an_expression_and_a_job_are_of_one_transaction(queue: Database) -> None:
    order = an_order()
    with transaction.atomic():
        Order.objects.filter(pk=order.pk).update(total=F("total") + 1)
        pgreact.enqueue(connection, "t", kwargs={"total": str(Order.objects.get(pk=order.pk).total)})
    assert queue.value("select kwargs ->> 'total' from pgreact.queue") == "2.00"
