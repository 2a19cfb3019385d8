"""Fixtures on real servers: one PostgreSQL per major version and run, one database per test."""

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import hostile, servers
from tests.harness import Daemon, Database, Inbox, fresh_database, install
from tests.queue_steps import Queue, queue_database

MAJOR = int(os.environ.get("PGREACT_PG_MAJOR", "18"))
# Files of minutes: run last, one of them keeps one process busy and leaves the others idle.
LONG = ("tests/docs/", "tests/disruption/", "tests/conformance/", "tests/model/")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for hostile defaults of the databases; see ``tests/hostile.py``."""
    group = parser.getgroup("pgreact")
    group.addoption(
        "--hostile", action="store_true", help="run the core of the tests under each hostile set of defaults"
    )
    group.addoption("--hostile-few", action="store_true", help="run a few of them, each under one set")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test under each set of defaults, or, with ``--hostile-few``, under one of them."""
    sets = sorted(hostile.HOSTILE)
    if metafunc.config.getoption("--hostile-few"):
        sets = [sets[zlib.crc32(metafunc.definition.nodeid.encode()) % len(sets)]]
    elif not metafunc.config.getoption("--hostile"):
        return
    metafunc.parametrize("_defaults", sets, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long files first; deselect the tests that are not meant for hostile defaults."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    few = config.getoption("--hostile-few")
    if not few and not config.getoption("--hostile"):
        return
    chosen = hostile.FEW if few else hostile.CORE
    kept = [item for item in items if any(name in item.nodeid for name in chosen)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session", autouse=True)
def _defaults(request: pytest.FixtureRequest) -> None:
    """Set the defaults of the tests' databases."""
    hostile.imposed.clear()
    if name := getattr(request, "param", None):
        hostile.imposed.update(hostile.HOSTILE[name])


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide this machine's configuration from the test, and give the test a working directory of its own."""
    for variable in list(os.environ):
        if variable.startswith(("PGREACT_", "PG")) and variable not in {
            "PGREACT_REQUIRE",
            "PGREACT_PG_BINDIR",
        }:
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server of most tests."""
    with servers.Postgres(bindir=servers.postgres_binaries(MAJOR)) as server:
        yield server


@pytest.fixture(scope="session", params=[14, 18])
def each_postgres(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The oldest supported server, then the newest."""
    if request.param == MAJOR:
        yield postgres
        return
    servers.require_or_skip(f"pg{request.param}")
    with servers.Postgres(bindir=servers.postgres_binaries(request.param)) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server for this test alone, which may restart it."""
    with servers.Postgres(bindir=servers.postgres_binaries(MAJOR)) as server:
        hostile.give(server.dsn())
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh, empty database."""
    with fresh_database(postgres) as fresh:
        yield fresh


@pytest.fixture
def each_database(each_postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh, empty database on the oldest supported server, then on the newest."""
    with fresh_database(each_postgres) as fresh:
        yield fresh


@pytest.fixture
def installed() -> Callable[..., None]:
    """Apply a configuration to a database: ``installed(database, {"routes": {...}})``."""

    return lambda database, configuration=None: install(database, configuration or {})


@pytest.fixture(scope="module")
def module_queue(each_postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Queue]:
    """A database with a queue, shared by the tests of a module."""
    with queue_database(each_postgres) as found:
        yield found


@pytest.fixture
def steps(module_queue: Queue) -> Queue:
    """An empty queue with its default lane; the test drives it step by step."""
    module_queue.empty()
    return module_queue


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis."""
    servers.require_or_skip("redis")
    with servers.redis_server() as server:
        yield server.url


@pytest.fixture
def inbox(redis_url: str) -> Iterator[Inbox]:
    """A Celery queue on Redis for this test, whose messages are read and not run."""
    box = Inbox(redis_url, f"q_{uuid4().hex[:12]}")
    yield box
    box.close()


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start ``pgreact listen`` processes: ``daemons(dsn, broker)``; kill them after the test."""
    started: list[Daemon] = []

    def start(dsn: str | None, broker: str | None, **options: Any) -> Daemon:
        started.append(Daemon(dsn, broker, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()
