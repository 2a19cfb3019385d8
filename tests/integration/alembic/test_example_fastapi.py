"""The FastAPI example: its migrations, its own tests, and all its processes together."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import Daemon, Database, eventually
from tests.worker import ROOT as PROJECT
from tests.worker import Worker

ROOT = PROJECT / "examples" / "fastapi_orders"


def run(environ: dict[str, str], *arguments: str) -> str:
    """Run Python in the example's folder; return its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(database: Database, broker: str) -> dict[str, str]:
    """Return the variables of the README."""
    return {
        "PGREACT_DSN": database.dsn,
        "BROKER_URL": broker,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def environ(database: Database, redis_url: str) -> dict[str, str]:
    """The variables of a database that is migrated and applied to."""
    found = environment(database, redis_url)
    run(found, "-m", "alembic", "upgrade", "head")
    run(found, "-m", "pgreact", "apply")
    return found


@pytest.fixture
def api(environ: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the example under uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        log = (tmp_path / "uvicorn.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "orders.main:app", "--fd", str(listener.fileno())],
            cwd=ROOT,
            env={**os.environ, **environ},
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                yield client
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def test_an_order_is_worked_off_by_the_processes_of_the_readme(
    database: Database, environ: dict[str, str], api: httpx.Client, daemons: Callable[..., Daemon]
) -> None:
    config = {**environ, "PGREACT_CONFIG": str(ROOT / "pgreact.toml")}
    worker = Worker(environ["BROKER_URL"], "orders", "solo", 1, config, app="orders.celery")
    try:
        daemons(database.dsn, "", environ=config)
        placed = api.post("/orders", json={"email": "ann@example.org", "total": "12.50"})
        assert placed.status_code == 201
        order = placed.json()["order"]
        eventually(
            lambda: api.get(f"/orders/{order}").json()["receipt_sent_at"] is not None,
            "the receipt is sent",
        )
        assert api.post(f"/orders/{order}/pay").json() == {"status": "paid"}
        database.until("select status = 'shipped' from orders")  # by the route
        database.until(
            "select count(*) = 3 from pgreact.history where outcome = 'done'"
        )  # and two announcements
        worker.wait_for_log("announced: ")
    finally:
        worker.stop()


def test_the_migrations_are_complete_and_reversible(database: Database) -> None:
    there_and_back = (
        "from alembic import command; from alembic.config import Config; config = Config('alembic.ini'); "
        "command.upgrade(config, 'head'); command.check(config); command.downgrade(config, 'base')"
    )
    shown = run(environment(database, "memory://"), "-c", there_and_back)
    assert shown == "No new upgrade operations detected.\n"
    assert database.value("select to_regnamespace('pgreact') is null and to_regclass('orders') is null")


def test_the_tests_of_the_example_pass(database: Database) -> None:
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:asyncio", "-p", "no:django")
    run(environment(database, "memory://"), "-m", "pytest", "-q", *plugins)
