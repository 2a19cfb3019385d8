"""A signal becomes one Celery call."""
