"""What a web process loads that only enqueues."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Database

ROOT = Path(__file__).parents[3]
NAMED = "task = 'proj.add'"
# Celery itself loads celery.worker when an application defines a task.
TASK = """
from celery import Celery

app = Celery("proj", broker="memory://")

@app.task(name="proj.add")
def task(x, y=0):
    return x + y

task.s(1)
"""
ENQUEUE = """
import sys
import psycopg

before = set(sys.modules)
import pgreact

with psycopg.connect(sys.argv[1]) as connection:
    job = pgreact.enqueue(connection, task, [1], lane="default", options={"priority": 3})
    pgreact.enqueue_many(connection, [pgreact.Job(task, [2], run_at=5)])
    pgreact.cancel(connection, job)
    pgreact.retry(connection, job)
    pgreact.mute(connection)
print(*sorted(sys.modules.keys() - before))
"""


def loaded(*arguments: str) -> set[str]:
    """Run a program that prints modules; return them and the packages they are in."""
    done = subprocess.run(
        [sys.executable, "-c", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.split())
    return modules | {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("application", [NAMED, TASK], ids=["named", "task"])
def test_enqueue_loads_neither_worker_nor_settings(
    application: str, database: Database, installed: Callable[..., None]
) -> None:
    installed(database)
    modules = loaded(application + ENQUEUE, database.dsn)
    assert "pgreact.queue.enqueue" in modules
    assert not modules & {"celery", "kombu", "pydantic", "structlog", "asyncpg", "click"}
    assert not modules & {"pgreact.worker", "pgreact.settings", "pgreact.logs"}
    assert database.value("select count(*) from pgreact.queue") == 1


def test_errors_of_the_public_api_are_imported_without_a_library() -> None:
    modules = loaded("import sys; from pgreact import ConfigError, NotGuarded; print(*sys.modules)")
    assert not modules & {"celery", "psycopg", "asyncpg", "pydantic", "structlog", "pgreact.worker"}
