"""The part of :mod:`pgreact.testing` that is made for Django."""

import sys
from contextlib import AbstractContextManager
from typing import Any

from django.apps import apps
from django.core import mail
from django.db import connections, transaction

from pgreact.django import conf
from pgreact.testing.connection import DRIVERS, Rows


class DjangoConnection:
    """A connection of Django; savepoints are those of ``transaction.atomic()``."""

    def __init__(self, connection: Any) -> None:
        """Take ``django.db.connection``, or one of ``connections``.

        Raises:
            TypeError: It is not of PostgreSQL.
        """
        if connection.vendor != "postgresql":
            raise TypeError(
                f'connection is Django\'s "{connection.alias}", which is {connection.vendor}, not PostgreSQL'
            )
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        """Whether it is in an ``atomic()`` block, such as that of ``TestCase``."""
        return bool(self._connection.in_atomic_block)

    def execute(self, statement: str) -> Rows:
        """Run one statement; see :class:`pgreact.testing.connection.TestConnection`."""
        self._connection.ensure_connection()
        driver = self._connection.connection
        kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(driver).__mro__)
        return next(DRIVERS[kind] for kind in kinds if kind in DRIVERS)(driver).execute(statement)

    def savepoint(self) -> AbstractContextManager[object]:
        """Return an ``atomic()`` block."""
        block: AbstractContextManager[object] = transaction.atomic(using=self._connection.alias)
        return block


def default() -> Any:
    """Return the connection that has pgreact's schema; ``None``: ``pgreact.django`` is not installed."""
    if apps.ready and apps.is_installed("pgreact.django") and conf.is_postgres():
        return connections[conf.alias()]
    return None


def app() -> str | None:
    """Return the name of the project's Celery application."""
    return conf.app()


def is_testing() -> bool:
    """Return whether Django's test environment is set up."""
    return "django.test.utils" in sys.modules and hasattr(mail, "outbox")
