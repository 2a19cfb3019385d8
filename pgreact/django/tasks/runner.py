"""The Celery task that runs the tasks of ``django.tasks``."""

from typing import Any

from celery import Task, shared_task

from pgreact.django.tasks.names import RUNNER


@shared_task(name=RUNNER, bind=True, ignore_result=True)
def run_django_task(
    self: "Task[Any, Any]", /, path: str, args: list[Any], kwargs: dict[str, Any], **variant: Any
) -> None:
    """Run a task of ``django.tasks``.

    Args:
        path: Where it is: its module and its name.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        **variant: The backend, and how this call differs from the task's declaration; see
            :class:`pgreact.django.tasks.call.TaskCall`.
    """
    from pgreact.django.tasks.run import run  # needs a package of tasks, and the application may have none

    run(self.request, path, args, kwargs, variant)
