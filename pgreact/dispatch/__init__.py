"""Dispatch: a signal becomes one Celery call."""
