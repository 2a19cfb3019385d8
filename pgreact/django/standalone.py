"""Django in a process that ``manage.py`` did not start."""

import os
import sys
from pathlib import Path

from pgreact.errors import ConfigError


def set_up() -> None:
    """Set Django up if ``DJANGO_SETTINGS_MODULE`` names the settings of a project that has this app.

    Raises:
        ConfigError: The settings, or the project's apps, cannot be imported.
    """
    import django
    from django.apps import apps
    from django.conf import settings

    if apps.ready:
        return
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if any(
            entry == "pgreact.django" or entry.startswith("pgreact.django.")
            for entry in settings.INSTALLED_APPS
        ):
            django.setup()
    except Exception as error:
        raise ConfigError(
            f"DJANGO_SETTINGS_MODULE={os.environ['DJANGO_SETTINGS_MODULE']}: {type(error).__name__}: {error}"
        ) from error
