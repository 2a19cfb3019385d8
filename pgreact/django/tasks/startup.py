"""The start of Django: register the task and the check of ``django.tasks``."""

from django.conf import settings

BACKEND = "pgreact.django.tasks.Backend"


def start() -> None:
    """Register the Celery task, also for an application that does not call ``autodiscover_tasks()``.

    If ``TASKS`` names the backend, import the package of tasks, which registers the check of ``TASKS``: most
    projects would import it after the checks have run.
    """
    from pgreact.django.tasks import runner  # noqa: F401 - registers the task

    entries = getattr(settings, "TASKS", None)
    if isinstance(entries, dict) and any(
        isinstance(entry, dict) and entry.get("BACKEND") == BACKEND for entry in entries.values()
    ):
        from pgreact.django.tasks import interface  # noqa: F401 - registers the check
