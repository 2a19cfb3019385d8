"""Databases that have schema pgreact, copied from one, and projects with Alembic on them."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import hostile
from tests.alembic_project import Project
from tests.harness import Database, install


@pytest.fixture(scope="session")
def installed_name(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with schema pgreact, to be copied."""
    name = f"alembic_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        install(Database(postgres.dsn(dbname=name)), {})
        yield name
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def ready(postgres: EmbeddedPostgres, installed_name: str) -> Iterator[Database]:
    """A database with schema pgreact."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name} template {installed_name}".encode())
        hostile.give(postgres.dsn(dbname=name))
        yield Database(postgres.dsn(dbname=name))
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def project(ready: Database, tmp_path: Path) -> Project:
    """A project whose first revision is ``op.pgreact_upgrade()``, and which is upgraded to it."""
    found = Project(tmp_path / "migrations", ready)
    found.write("op.pgreact_upgrade()")
    found.upgrade()
    return found
