"""The package whose tasks are served: Django's own ``django.tasks``, else its backport ``django_tasks``.

Both have the same classes; some of their names differ. On Django 6 the backport, if it is installed beside,
makes Django's own tasks, since it asks the backend for their class.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

NAME = next((name for name in ("django.tasks", "django_tasks") if find_spec(name) is not None), None)

if TYPE_CHECKING or NAME == "django.tasks":
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
elif NAME == "django_tasks":
    from django_tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django_tasks import checks as _checks  # noqa: F401 - registers the check, as django.tasks does
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json
else:
    raise ImportError(
        "tasks need Django 6 or its backport: install django-tasks, or remove TASKS from the settings"
    )

__all__ = [
    "NAME",
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
