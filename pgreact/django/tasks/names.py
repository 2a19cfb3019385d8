"""Names that jobs carry; this module imports neither Celery nor a package of tasks."""

RUNNER = "pgreact.run_django_task"  # the Celery task that runs those of django.tasks
