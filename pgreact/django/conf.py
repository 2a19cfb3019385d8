"""The setting ``PGREACT``: what ``pgreact.toml`` takes, in Python; the database comes from ``DATABASES``.

::

    PGREACT = {
        "DATABASE": "default",  # alias in DATABASES
        "APP": "shop",  # Celery application, as for celery -A
        "ROUTES": {"dispatch": {"task": "shop.tasks.dispatch", "window": timedelta(milliseconds=50)}},
        "LANES": {"mail": {"max_in_progress": 10}},
        "SCHEDULES": {"report": {"task": "shop.tasks.report", "cron": "0 7 * * 1-5"}},
    }

The keys of its first level may be written in capitals, as Django's are, or as in the file; one that is empty
or ``None`` is not set. Values may be Python's own: ``timedelta``, ``datetime``, tuples, a Celery task instead
of its name.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pgreact import settings
from pgreact.errors import ConfigError, nearest

LABEL = "settings.PGREACT"
_KEYS = {"database", *settings.Settings.model_fields}


def alias() -> str:
    """Return the alias of the database that has pgreact's schema.

    Raises:
        ConfigError: ``DATABASES`` has no such alias.
    """
    name = _setting().get("database", DEFAULT_DB_ALIAS)
    if name not in list(connections):
        raise ConfigError(
            f'{LABEL}: DATABASE: no "{name}" in DATABASES{nearest(str(name), list(connections))}'
        )
    return str(name)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to that database, open or not.

    Raises:
        ConfigError: ``DATABASES`` has no such alias, or its backend cannot be loaded.
    """
    name = alias()
    try:
        return connections[name]
    except ImproperlyConfigured as error:
        raise ConfigError(f"settings.DATABASES: {name}: {_first_line(error)}") from error


def is_postgres() -> bool:
    """Return whether that database is PostgreSQL."""
    return connection().vendor == "postgresql"


def dsn() -> str:
    """Return the DSN of that database, of the test database during tests.

    Raises:
        ConfigError: It is not PostgreSQL, or its settings are incomplete.
    """
    found = connection()
    if found.vendor != "postgresql":
        raise ConfigError(
            f'{LABEL}: DATABASE: "{found.alias}" is {found.vendor}, and pgreact needs PostgreSQL: '
            "name another alias of DATABASES"
        )
    try:
        given = found.get_connection_params()
    except ImproperlyConfigured as error:
        raise ConfigError(f"settings.DATABASES: {found.alias}: {_first_line(error)}") from None
    if role := found.settings_dict["OPTIONS"].get("assume_role"):
        # what Django sends as "set role" after it has connected
        escaped = str(role).replace("\\", r"\\").replace(" ", r"\ ")
        given["options"] = f"{given.get('options') or ''} -c role={escaped}".strip()
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    return make_conninfo(
        "", **{key: value for key, value in given.items() if key in known and value is not None}
    )


def app() -> str | None:
    """Return the name of the Celery application, as for ``celery -A``; ``None``: there is none.

    That of ``PGREACT["APP"]``, else of ``CELERY_APP``, else the package of the settings if it has a module
    ``celery``.
    """
    named = _setting().get("app") or os.environ.get("CELERY_APP")
    if named:
        return str(named)
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    while package:
        if importlib.util.find_spec(f"{package}.celery") is not None:
            return package
        package = package.rpartition(".")[0]
    return None


def given() -> settings.Given:
    """Return the configuration for :func:`pgreact.settings.use`.

    Raises:
        ConfigError: ``PGREACT`` is no dict, or has unknown keys.
    """
    data = _setting()
    if unknown := [key for key in data if key not in _KEYS]:
        raise ConfigError(
            "\n".join(f'{LABEL}: {key}: unknown key "{key}"{nearest(key, sorted(_KEYS))}' for key in unknown)
        )
    data.pop("database", None)
    if (name := app()) is not None:
        data["app"] = name
    return settings.Given(LABEL, data, dsn)


def _setting() -> dict[str, Any]:
    """Return the setting with the keys of its first level as in the file, without those not set."""
    found = getattr(django_settings, "PGREACT", {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{LABEL} is of type {type(found).__name__}, not a dict")
    spelt: dict[str, str] = {}
    for key in map(str, found):
        if (first := spelt.setdefault(key.lower(), key)) != key:
            raise ConfigError(f"{LABEL}: {first} and {key} are one key: leave one of them")
    return {str(key).lower(): value for key, value in found.items() if value is not None and value != ""}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
