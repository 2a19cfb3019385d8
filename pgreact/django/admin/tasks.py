"""The registered tasks of the Celery application, for suggestions."""

import functools
import warnings

from pgreact.broker.publisher import open_app
from pgreact.django import conf
from pgreact.errors import ConfigError


@functools.cache
def registered_tasks() -> tuple[str, ...]:
    """Return their names, without Celery's and pgreact's own; none if there is no application."""
    name = conf.app()
    if name is None:
        return ()
    try:
        app = open_app(name, None)
    except ConfigError:
        return ()
    try:
        app.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001 - they run users' code
        warnings.warn(f"{name}: its modules of tasks fail: {type(error).__name__}: {error}", stacklevel=2)
    return tuple(sorted(task for task in app.tasks if not task.startswith(("celery.", "pgreact."))))
