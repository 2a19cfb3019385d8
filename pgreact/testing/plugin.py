"""The pytest plugin: fixtures for a database with pgreact's schema, and a worker on the test's connection.

It is loaded in every project that has pgreact installed, so it imports nothing before a fixture is used.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgreact.testing.worker import TestWorker


@pytest.fixture(scope="session")
def pgreact_prepare() -> Callable[[str], None]:
    """Return a function that creates your own tables in the test database; override it to have some.

    The function is called with the DSN before the schema and the configuration are applied.
    """
    return lambda _dsn: None


@pytest.fixture(scope="session")
def pgreact_dsn(pgreact_prepare: Callable[[str], None]) -> str:
    """Return the DSN of a test database with pgreact's schema and your configuration.

    The database is that of ``PGREACT_TEST_DSN``, or ``test_NAME`` for the configured database NAME. It is
    created if it is missing, and kept. With pytest-xdist each process has its own.
    """
    from pgreact.testing.database import prepared

    return prepared(pgreact_prepare, os.environ.get("PYTEST_XDIST_WORKER", ""))


@pytest.fixture
def pgreact_db(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open a connection in a transaction that is rolled back after the test; the helpers use it.

    With pytest-django and ``pgreact.django`` in ``INSTALLED_APPS`` it is Django's, as the fixture ``db``
    prepares it.
    """
    from pgreact.testing.settings import use

    if _has_django(request):
        request.getfixturevalue("db")
        from pgreact.testing import django

        if (connection := django.default()) is not None:
            with use(connection):
                yield connection
            return
    import psycopg

    with psycopg.connect(request.getfixturevalue("pgreact_dsn")) as opened:
        try:
            with use(opened):
                yield opened
        finally:
            opened.rollback()


@pytest.fixture
def pgreact_worker(pgreact_db: Any) -> "TestWorker":
    """Return a worker that runs the jobs of the test's transaction; see :func:`pgreact.testing.drain`."""
    from pgreact.testing.worker import TestWorker

    return TestWorker(pgreact_db)


def _has_django(request: pytest.FixtureRequest) -> bool:
    """Return whether pytest-django has set Django up, with ``pgreact.django``."""
    return "pgreact.django" in sys.modules and request.config.pluginmanager.hasplugin("django")
