"""The plain example, started by hand as its README says: real PostgreSQL, broker, worker and daemon."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import Daemon, Database
from tests.worker import ROOT, Worker

JOBS = 12


class Example(NamedTuple):
    """The running example."""

    database: Database
    folder: Path
    environ: dict[str, str]
    worker: Worker


@pytest.fixture
def example(
    database: Database, redis_url: str, daemons: Callable[..., Daemon], tmp_path: Path
) -> Iterator[Example]:
    """The example in a folder of its own, installed, with a worker and a daemon."""
    folder = shutil.copytree(ROOT / "examples" / "plain", tmp_path / "plain")
    environ = {
        "PROJ_DSN": database.dsn,
        "PGREACT_DSN": database.dsn,
        "PROJ_BROKER_URL": redis_url,
        "PYTHONPATH": str(folder),
        "PGREACT_CONFIG": str(folder / "pgreact.toml"),
    }
    database.run((folder / "schema.sql").read_text("utf-8"))
    subprocess.run([sys.executable, "-m", "pgreact", "apply"], env={**os.environ, **environ}, check=True)
    worker = Worker(redis_url, "celery", "prefork", 5, environ, app="proj.celery:app")
    try:
        # The broker is that of the example's application: an empty variable counts as none.
        daemons(database.dsn, "", environ=environ).ready()
        worker.wait_for_log("ready.")
        yield Example(database, folder, environ, worker)
    finally:
        worker.stop()


def test_plain_example_does_each_job_of_its_tables_within_its_limit(example: Example) -> None:
    example.database.run(
        "create table places (taken int)",
        """create function count_places() returns trigger language plpgsql as $$
           begin insert into places select count(*) from in_progress; return null; end $$""",
        """create trigger count_places after insert on in_progress
           for each statement execute function count_places()""",
        f"""insert into job_queue (payload)
            select '{{"seconds": 0.05}}' from generate_series(1, {JOBS})""",
    )
    example.database.until(f"select count(*) = {JOBS} from job_done")
    example.database.until("select not exists (table in_progress) and not exists (table job_queue)")
    assert example.database.value("select max(taken) from places") == 4


def test_producer_of_the_plain_example_commits_jobs_that_are_done(example: Example) -> None:
    environ = {**os.environ, **example.environ}
    shown = subprocess.run(
        [sys.executable, "producer.py", "2"],
        cwd=example.folder,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.count("committed") == 2
    committed = sum(int(line.split()[1]) for line in shown.splitlines())
    example.database.until(f"select count(*) = {committed} from job_done")


def test_plain_example_runs_a_job_of_the_built_in_queue(example: Example) -> None:
    example.database.run(
        """select pgreact.enqueue('proj.tasks.send_email', kwargs => '{"user_id": 42}', lane => 'mail')"""
    )
    example.worker.wait_for_log("sends an email to user 42")
    example.database.until("select count(*) = 1 from pgreact.history where outcome = 'done'")
