"""The check that a Celery application has the tasks of a configuration."""

from collections.abc import Mapping

from pgreact.broker.publisher import open_app
from pgreact.errors import ConfigError, PgreactError, nearest


def unknown_tasks(app: str, tasks: Mapping[str, str]) -> list[str]:
    """Return the tasks that an application does not have, as one line each.

    Args:
        app: As ``celery -A`` takes it. It is imported, with the modules of its tasks.
        tasks: Their names, by their place in the configuration.

    Raises:
        PgreactError: It cannot be imported.
    """
    try:
        found = open_app(app, None)
    except ConfigError as error:
        raise PgreactError(str(error)) from error
    try:
        found.loader.import_default_modules()
        found.finalize()
    except Exception as error:
        raise PgreactError(f"{app}: its modules fail: {type(error).__name__}: {error}") from error
    known = [name for name in found.tasks if not name.startswith("celery.")]
    return [
        f'{place}: no task "{task}" in {app}{nearest(task, known)}'
        for place, task in tasks.items()
        if task not in found.tasks
    ]
