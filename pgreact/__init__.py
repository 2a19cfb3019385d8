"""pgreact: a committed change in PostgreSQL becomes one Celery call, at once."""

__version__ = "0.1.0"
