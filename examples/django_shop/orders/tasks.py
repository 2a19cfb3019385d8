"""What is done in the background."""

import datetime

from celery import shared_task
from django.utils import timezone

from orders.models import Order, Product, SearchEntry


@shared_task
def send_receipt(order_id: int) -> str:
    """Send the receipt of an order. Each order's job is enqueued in the transaction that saves the order."""
    order = Order.objects.get(pk=order_id)
    order.receipt_sent_at = timezone.now()
    order.save(update_fields=["receipt_sent_at"])
    return order.email


@shared_task
def pack_orders() -> int:
    """Pack all paid orders. The route "packing" calls this at each commit that makes an order paid."""
    return Order.objects.filter(status=Order.Status.PAID).update(status=Order.Status.PACKED)


@shared_task
def index_product(table: str, operation: str, key: dict[str, int]) -> None:
    """Bring the search index up to date. The outbox of products enqueues this for each change."""
    product = Product.objects.filter(pk=key["id"]).first()
    if product is not None:
        words = f"{product.name} {product.description}".lower()
        SearchEntry.objects.update_or_create(product=product, defaults={"words": words})


@shared_task
def cancel_unpaid(days: int) -> int:
    """Cancel orders that nobody paid. The timetable calls this each night."""
    before = timezone.now() - datetime.timedelta(days=days)
    unpaid = Order.objects.filter(status=Order.Status.NEW, placed_at__lt=before)
    return unpaid.update(status=Order.Status.CANCELLED)
