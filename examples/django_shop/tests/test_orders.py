"""Orders, from the form to the job and what it does."""

import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from orders.models import Order, Product
from orders.tasks import cancel_unpaid, index_product, pack_orders, send_receipt

from pgreact.testing import assert_enqueued, assert_not_enqueued, drain, freeze

pytestmark = pytest.mark.django_db


def test_an_order_has_a_job_that_sends_its_receipt(client: Client) -> None:
    answer = client.post("/orders/", {"email": "ann@example.org", "total": "12.50"})
    assert answer.status_code == 201
    order = Order.objects.get()
    assert_enqueued(send_receipt, args=[order.pk], lane="mail", key="ann@example.org")
    drain()
    order.refresh_from_db()
    assert order.receipt_sent_at is not None


def test_an_invalid_order_has_no_job(client: Client) -> None:
    answer = client.post("/orders/", {"email": "nobody", "total": "12.50"})
    assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["email"])
    assert_not_enqueued()


def test_the_page_places_an_order_and_shows_it(client: Client) -> None:
    page = client.post("/", {"email": "ann@example.org", "total": "12.50"}, follow=True)
    assert "ann@example.org" in page.content.decode()
    assert_enqueued(send_receipt)


def test_the_receipts_of_one_customer_are_sent_in_order(client: Client) -> None:
    for email in ("ann@example.org", "bob@example.org", "ann@example.org"):
        client.post("/orders/", {"email": email, "total": "1"})
    drain()
    first, _, last = Order.objects.order_by("pk")
    assert first.receipt_sent_at < last.receipt_sent_at


def test_an_order_that_is_paid_in_the_admin_is_packed(client: Client) -> None:
    order = Order.objects.create(email="ann@example.org", total=1)
    client.force_login(User.objects.create_superuser("admin"))
    chosen = {"action": "mark_paid", "_selected_action": [order.pk]}
    client.post(reverse("admin:orders_order_changelist"), chosen)
    order.refresh_from_db()
    assert order.status == Order.Status.PAID
    assert pack_orders() == 1  # the route calls it after the commit
    order.refresh_from_db()
    assert order.status == Order.Status.PACKED


def test_a_changed_product_is_indexed(client: Client) -> None:
    product = Product.objects.create(name="Teapot", description="Porcelain", price=24)
    product.price = 25
    product.save()
    assert_enqueued(index_product)  # once: the price is not in the index
    drain()
    assert client.get("/search/", {"q": "TEA"}).json() == {"products": ["Teapot"]}


def test_an_order_that_nobody_paid_is_cancelled_at_night() -> None:
    order = Order.objects.create(email="ann@example.org", total=1)
    Order.objects.update(placed_at=timezone.now() - datetime.timedelta(days=8))
    with freeze(timezone.now()):
        ran = drain(until=datetime.timedelta(days=1))
    assert [run.task for run in ran] == [cancel_unpaid.name]
    order.refresh_from_db()
    assert order.status == Order.Status.CANCELLED
