"""The backend of ``django.tasks``, Django 6's or the backport's::

    TASKS = {"default": {"BACKEND": "pgreact.django.tasks.Backend", "QUEUES": ["default", "mail"]}}

Celery's ``autodiscover_tasks()`` imports this module, too, and so registers the task that runs them. Most
applications have no other use for it: the backend is imported when ``TASKS`` names it.
"""

from typing import TYPE_CHECKING, Any

from pgreact.django.tasks.runner import run_django_task

if TYPE_CHECKING:
    from pgreact.django.tasks.backend import Backend

__all__ = ["Backend", "run_django_task"]


def __getattr__(name: str) -> Any:
    if name == "Backend":
        from pgreact.django.tasks.backend import Backend

        return Backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
