"""The connection and the Celery application of a test, for helpers that are given none."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pgreact.errors import ConfigError, PgreactError
from pgreact.testing.binding import bind
from pgreact.testing.connection import TestConnection

if TYPE_CHECKING:
    from celery import Celery

# Of the blocks of use(), the innermost last. Not a context variable: event loops have contexts of their own.
_used: "list[tuple[object, Celery | str | None]]" = []


@contextlib.contextmanager
def use(connection: object, app: "Celery | str | None" = None) -> Iterator[None]:
    """Let the helpers of this module use a connection, and an application, in a block::

        @pytest.fixture
        def session(engine):
            with engine.connect() as connection, connection.begin() as outer:
                with Session(connection, join_transaction_mode="create_savepoint") as session:
                    with pgreact.testing.use(connection):
                        yield session
                outer.rollback()

    Args:
        connection: Of psycopg, psycopg2, SQLAlchemy (``Connection``, ``Session``) or Django, in the
            transaction of the test.
        app: The Celery application, or its name as for ``celery -A``; ``None``: found as :func:`drain` does.

    Raises:
        TypeError: ``connection`` is no such connection.
    """
    bind(connection)
    _used.append((connection, app if app is not None or not _used else _used[-1][1]))
    try:
        yield
    finally:
        _used.pop()


def connection_or_default(given: object | None) -> TestConnection:
    """Return the connection that a helper works on: the given one, that of :func:`use`, or Django's.

    Raises:
        PgreactError: There is none.
        TypeError: It is no supported connection.
    """
    found = given if given is not None or not _used else _used[-1][0]
    if found is None and "pgreact.django" in sys.modules:
        from pgreact.testing import django

        found = django.default()
    if found is None:
        raise PgreactError(
            "no connection: give connection=…, the one in whose transaction the test runs, or name it once "
            'for all by "with pgreact.testing.use(connection):", or use the fixture pgreact_db; with '
            '"pgreact.django" in INSTALLED_APPS it is that of Django'
        )
    return bind(found)


def app_or_default(given: "Celery | str | None") -> "Celery":
    """Return the Celery application that runs the jobs.

    The given one, that of :func:`use`, the only one that called :func:`pgreact.setup`, or that of the
    configuration.

    Raises:
        ConfigError: There is none, it cannot be imported, or it did not call :func:`pgreact.setup`.
    """
    from celery.app.utils import find_app

    from pgreact.worker.database import databases

    named: Any = given if given is not None or not _used else _used[-1][1]
    if named is None and len(databases) == 1:
        named = next(iter(databases))
    if named is None:
        named = _configured()
    if isinstance(named, str):
        try:
            named = find_app(named)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f'app "{named}": {error}; it is named as for "celery -A"') from error
    if named not in databases:
        raise ConfigError(
            f"the application {named.main or named!r} did not call pgreact.setup(app), so it runs no jobs"
        )
    found: Celery = named
    return found


def _configured() -> str:
    from pgreact import settings

    found = settings.load(None).app
    if found is None:
        raise ConfigError(
            "no Celery application: give app=…, or set app in pgreact.toml; several have called "
            "pgreact.setup, or none has"
        )
    return str(found)
