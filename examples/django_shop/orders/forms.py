"""The form of an order."""

from django import forms
from django.db import connection, transaction

import pgreact
from orders.models import Order
from orders.tasks import send_receipt


class OrderForm(forms.ModelForm):
    """E-mail address and total."""

    class Meta:
        model = Order
        fields = ("email", "total")

    @transaction.atomic
    def place(self) -> tuple[Order, pgreact.Enqueued]:
        """Save an order, and the job that sends its receipt: both, or none.

        The lane limits how many receipts are sent at a time. The key keeps those of one customer in order.
        """
        order = self.save()
        return order, pgreact.enqueue(connection, send_receipt, [order.pk], lane="mail", key=order.email)
