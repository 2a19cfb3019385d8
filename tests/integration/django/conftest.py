"""A database of the Django project, migrated once."""

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from django.core.management import call_command

from pgreact.demo.postgres import EmbeddedPostgres
from tests import django_project, hostile
from tests.harness import Database


@pytest.fixture(scope="session")
def migrated(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a migrated database, to be copied."""
    name = f"shop_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        with django_project.database(postgres.dsn(dbname=name)):
            call_command("migrate", verbosity=0)
        yield name
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def shop(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Database]:
    """A database of the Django project, which is its ``default``."""
    with a_shop(postgres, migrated) as found:
        yield found


@pytest.fixture(scope="module")
def module_shop(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Database]:
    """The same, shared by the tests of a module."""
    with a_shop(postgres, migrated) as found:
        yield found


@contextlib.contextmanager
def a_shop(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Database]:
    """Copy the migrated database; let it be ``default``."""
    name = f"t_{uuid4().hex[:12]}"
    dsn = postgres.dsn(dbname=name)
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name} template {migrated}".encode())
        hostile.give(dsn)
        try:
            with django_project.database(dsn):
                yield Database(dsn)
        finally:
            admin.execute(f"drop database {name} with (force)".encode())
