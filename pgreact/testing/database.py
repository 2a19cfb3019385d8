"""The database of the fixture ``pgreact_dsn``: created, and brought to the schema and the configuration."""

import os
import re
from collections.abc import Callable

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgreact import settings
from pgreact.apply import apply
from pgreact.postgres import conninfo

LOCK_TIMEOUT = 10.0  # seconds that apply waits for a lock
_TEST = re.compile(r"(?<![a-z])(test|tests|testing|testdb)(?![a-z])", re.IGNORECASE)


def prepared(prepare: Callable[[str], None], process: str = "") -> str:
    """Create the test database unless it exists, and apply schema and configuration.

    Args:
        prepare: Creates the user's own tables; called with the DSN before.
        process: The name of this process among several that test; ``""``: it is the only one.

    Returns:
        The DSN.

    Raises:
        ConfigError: The configuration has a mistake.
        PgreactError: The configuration cannot be applied.
        psycopg.Error: The server cannot be reached, or refuses.
    """
    configured = settings.load(None)
    dsn = dsn_of_tests(os.environ.get("PGREACT_TEST_DSN"), configured.dsn, process)
    _create(dsn)
    prepare(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        list(apply(connection, configured, LOCK_TIMEOUT, lambda _line: None))
    return dsn


def is_for_tests(name: str) -> bool:
    """Return whether the name of a database has the word "test": ``test_shop``, but not ``contest``."""
    return _TEST.search(name) is not None


def dsn_of_tests(given: str | None, configured: str, process: str) -> str:
    """Return the DSN of the test database.

    Args:
        given: ``PGREACT_TEST_DSN``.
        configured: That of the application, whose database is left alone.
        process: As in :func:`prepared`.

    Raises:
        ConfigError: libpq cannot read it.
    """
    dsn = given or configured
    name = conninfo.resolve(dsn)["dbname"]
    name = name if is_for_tests(name) else f"test_{name}"
    return make_conninfo(dsn, dbname=f"{name}_{process}" if process else name)


def _create(dsn: str) -> None:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        name = conninfo_to_dict(dsn)["dbname"]
        with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as admin:
            if admin.execute("select from pg_database where datname = %s", (name,)).fetchone() is not None:
                raise  # it is there, and refuses
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(str(name))))
