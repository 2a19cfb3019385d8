"""A shop whose orders are worked off by Celery."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
