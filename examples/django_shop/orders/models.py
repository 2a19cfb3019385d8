"""Orders, and the products with their search index."""

from django.db import models
from django.db.models.functions import Now


class Order(models.Model):
    """What a customer ordered."""

    class Status(models.TextChoices):
        """Where an order stands."""

        NEW = "new"
        PAID = "paid"
        PACKED = "packed"
        CANCELLED = "cancelled"

    email = models.EmailField()
    status = models.CharField(max_length=20, choices=Status, default=Status.NEW)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    placed_at = models.DateTimeField(db_default=Now(), editable=False)
    receipt_sent_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"order {self.pk} of {self.email}"


class Product(models.Model):
    """What can be bought."""

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return self.name


class SearchEntry(models.Model):
    """The words of a product. It stands for the index of a search service."""

    product = models.OneToOneField(Product, on_delete=models.CASCADE, primary_key=True)
    words = models.TextField()

    class Meta:
        verbose_name_plural = "search entries"

    def __str__(self) -> str:
        return self.words
