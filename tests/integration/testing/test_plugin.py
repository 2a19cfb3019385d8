"""The fixtures of the pytest plugin, in a project without Django."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.testing.database import dsn_of_tests

TASKS = """
from celery import Celery
import pgreact

app = Celery("small", broker="redis://127.0.0.1:1/0")
pgreact.setup(app)


@app.task
def double(number):
    return 2 * number
"""

TESTS = """
import psycopg
import pytest

import pgreact
from small import double
from pgreact.testing import assert_enqueued, enqueued, freeze


@pytest.fixture(scope="session")
def pgreact_prepare():
    def create(dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create table if not exists orders (id int primary key)")

    return create


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_each_has_an_empty_queue(pgreact_db, pgreact_worker, number):
    assert enqueued() == []
    assert "test" in pgreact_db.info.dbname
    pgreact_db.execute("insert into orders values (1)")
    pgreact.enqueue(pgreact_db, double, [number], lane="mail")
    assert_enqueued(double, args=[number], lane="mail")
    with freeze("2030-01-01T00:00+00:00"):
        [ran] = pgreact_worker.drain(until=None)
    assert ran.result == 2 * number


def test_failures_are_readable(pgreact_db):
    assert_enqueued(double, lane="mail")
"""

CONFIGURATION = """
app = "small"

[lanes.mail]
max_in_progress = 2

[routes.orders]
task = "small.double"
tables = [{ table = "public.orders", on = ["insert"] }]
"""


@pytest.fixture
def small(tmp_path: Path, postgres: EmbeddedPostgres) -> Iterator[tuple[Path, dict[str, str]]]:
    """A project in a directory, and the environment that names its database, which does not exist."""
    (tmp_path / "small.py").write_text(TASKS)
    (tmp_path / "test_small.py").write_text(TESTS)
    name = f"small_{uuid4().hex[:8]}"
    (tmp_path / "pgreact.toml").write_text(f'dsn = "{postgres.dsn(dbname=name)}"\n{CONFIGURATION}')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    yield tmp_path, {**environ, "PYTHONPATH": str(tmp_path)}
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        for suffix in ("", "_gw0", "_gw1"):
            admin.execute(f"drop database if exists test_{name}{suffix} with (force)".encode())


def run(project: tuple[Path, dict[str, str]], *arguments: str) -> "subprocess.CompletedProcess[str]":
    root, environ = project
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:django",
            "-p",
            "no:asyncio",
            *arguments,
        ],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_process_creates_a_database_of_its_own(small: tuple[Path, dict[str, str]]) -> None:
    ran = run(small, "-n", "2")
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "1 failed" in ran.stdout
    assert "E       AssertionError: 0 such jobs, not 1: task='small.double', lane='mail'" in ran.stdout
    assert "assertions.py" not in ran.stdout


def test_the_plugin_imports_nothing_before_a_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text(
        "import sys\n"
        "def test_none():\n"
        "    heavy = {'celery', 'psycopg', 'pydantic', 'django', 'sqlalchemy', 'asyncpg'}\n"
        "    assert heavy & {*sys.modules} == set()\n"
        "    assert 'pgreact.testing.plugin' in sys.modules\n"
    )
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django"),
            *("-p", "no:anyio", "-p", "no:asyncio", "-p", "no:hypothesispytest"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("given", "configured", "process", "expected"),
    [
        (None, "dbname=shop", "", "test_shop"),
        (None, "dbname=shop", "gw1", "test_shop_gw1"),
        ("dbname=shop_testing", "dbname=shop", "", "shop_testing"),
        ("dbname=ci", "dbname=shop", "", "test_ci"),
        (None, "dbname=contest", "", "test_contest"),
        (None, "dbname=testimonials", "", "test_testimonials"),
        (None, "dbname=TEST-latest", "", "TEST-latest"),
    ],
)
def test_the_database_of_tests_is_never_the_configured_one(
    given: str | None, configured: str, process: str, expected: str
) -> None:
    assert dsn_of_tests(given, configured, process) == make_conninfo(dbname=expected)
