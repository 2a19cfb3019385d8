"""A database with the queue, and a transaction of it for each test."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.testing import use
from tests import testing_app
from tests.harness import Database, fresh_database, install

CONFIGURATION = {"lanes": {"slow": {"max_in_progress": 1}, "stopped": {"paused": True}}}


@pytest.fixture(scope="module")
def prepared(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Database]:
    """A database with lanes and a table that the tasks write."""
    with fresh_database(postgres) as database:
        install(database, CONFIGURATION)
        database.run("create table public.written (id serial, text text not null)")
        yield database


@pytest.fixture
def connection(prepared: Database) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """A connection in a transaction that is rolled back, which the helpers and tasks use."""
    with prepared.connect(autocommit=False) as opened:
        testing_app.connections.append(opened)
        with use(opened, testing_app.app):
            yield opened
        testing_app.connections.remove(opened)
        opened.rollback()
