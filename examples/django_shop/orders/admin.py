"""Orders and products in the admin."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from orders.models import Order, Product, SearchEntry


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders; the payment is a click."""

    list_display = ("pk", "email", "total", "status", "placed_at", "receipt_sent_at")
    list_filter = ("status",)
    search_fields = ("email",)
    readonly_fields = ("placed_at", "receipt_sent_at")
    actions = ("mark_paid",)

    @admin.action(description="Mark as paid")
    def mark_paid(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        """Mark new orders as paid: the commit calls the task that packs them."""
        count = orders.filter(status=Order.Status.NEW).update(status=Order.Status.PAID)
        self.message_user(request, f"{count} paid")


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products; a change reaches the search index."""

    list_display = ("name", "price")
    search_fields = ("name",)


@admin.register(SearchEntry)
class SearchEntryAdmin(admin.ModelAdmin):
    """The search index, to look at."""

    list_display = ("product", "words")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: the task writes the index."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: SearchEntry | None = None) -> bool:
        """Refuse: the task writes the index."""
        return False
