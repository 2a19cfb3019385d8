"""The Django project of ``examples/django_shop`` in the tests' own process."""

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import django
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.conninfo import conninfo_to_dict

from pgreact import settings as pgreact_settings

ROOT = Path(__file__).parent.parent / "examples" / "django_shop"


def setup() -> None:
    """Set Django up, once in a process; the databases come from :func:`database`.

    ``DJANGO_SETTINGS_MODULE`` stays unset, since processes that the tests start would inherit it. Each test
    that wants ``settings.PGREACT`` as configuration calls ``pgreact.settings.use(conf.given)``.
    """
    if settings.configured:
        return
    sys.path.insert(0, str(ROOT))
    shop = importlib.import_module("shop.settings")
    given = {name: getattr(shop, name) for name in dir(shop) if name.isupper()}
    settings.configure(**{**given, "DATABASES": {}, "PGREACT": {**given["PGREACT"], "APP": "shop"}})
    django.setup()
    pgreact_settings.use(None)
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)  # set by shop.celery


def environment(dsn: str, broker: str = "memory://") -> dict[str, str]:
    """Return the variables with which a process runs the project on a database and a broker."""
    where = conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    return {
        **{variable: str(where[name]) for name, variable in {**names, "password": "PGPASSWORD"}.items()},
        "PYTHONPATH": str(ROOT),
        "SHOP_BROKER_URL": broker,
    }


def manage(*arguments: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run ``manage.py ARGUMENTS`` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def entry(dsn: str, **more: Any) -> dict[str, Any]:
    """Return an entry of ``DATABASES``."""
    where = conninfo_to_dict(dsn)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": where["dbname"],
        "USER": where["user"],
        "PASSWORD": where["password"],
        "HOST": where["host"],
        "PORT": where["port"],
        **more,
    }


@contextlib.contextmanager
def databases(entries: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Let ``DATABASES`` have these entries."""
    setup()
    known = connections.databases
    before = dict(known)
    _forget(before)
    known.update(connections.configure_settings({"default": {}, **entries}))
    try:
        yield
    finally:
        _forget(known)
        known.clear()
        known.update(before)


def _forget(aliases: Iterable[str]) -> None:
    """Close the connections of this thread and of that of ``sync_to_async``, so that others are opened."""
    _forget_here(aliases)
    # One thread for the whole process, which asyncio.run() of a test does not end.
    SyncToAsync.single_thread_executor.submit(_forget_here, list(aliases)).result(timeout=20)


def _forget_here(aliases: Iterable[str]) -> None:
    for name in aliases:
        with contextlib.suppress(AttributeError):  # it has none
            connection = getattr(connections._connections, name)
            if connection.connection is not None:
                connection.connection.close()  # Django's own close() refuses in async code
            if pool := getattr(connection, "_connection_pools", {}).pop(name, None):
                pool.close()
            del connections[name]


@contextlib.contextmanager
def database(dsn: str, alias: str = "default", **options: Any) -> Iterator[BaseDatabaseWrapper]:
    """Let an alias of ``DATABASES`` be a database, and ``default``, too."""
    with databases({"default": entry(dsn, OPTIONS=options), alias: entry(dsn, OPTIONS=options)}):
        yield connections[alias]
