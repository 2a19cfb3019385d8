"""pgreact as a Django app: add ``"pgreact.django"`` to ``INSTALLED_APPS``."""

from pgreact.django.declarations import outbox, watch
from pgreact.django.jobs import aenqueue, aenqueue_many, enqueue, enqueue_many

__all__ = ["aenqueue", "aenqueue_many", "enqueue", "enqueue_many", "outbox", "watch"]
