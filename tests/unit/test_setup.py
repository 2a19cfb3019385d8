"""``pgreact.setup``: what it loads, which database a worker uses, and the events of a worker's log."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

import pgreact
from pgreact.worker.database import databases
from tests.worker import ROOT


def test_setup_again_without_a_dsn_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGREACT_DSN", "dbname=environment")
    app = Celery("proj", broker="memory://", set_as_current=False)
    found = []
    for dsn in (None, "dbname=first", None, "dbname=second", None):
        pgreact.setup(app, dsn=dsn)
        found.append(databases[app].dsn)
    assert found == ["dbname=environment", *["dbname=first"] * 2, *["dbname=second"] * 2]


def test_setup_reads_no_configuration_yet() -> None:
    app = Celery("proj", set_as_current=False)
    app.config_from_object("a.module.that.is.not.there.yet")
    pgreact.setup(app)
    assert not app.configured


PROJECT = """
import sys
from celery import Celery

app = Celery("proj", broker="memory://")

@app.task
def add(a, b):
    return a + b

app.finalize()
before = set(sys.modules)

import pgreact
pgreact.setup(app)

@app.task
@pgreact.single_flight("dispatch")
def dispatch():
    pass

new = set(sys.modules) - before
unwanted = ("pydantic", "pydantic_core", "structlog", "asyncpg", "click", "celery.worker", "celery.bin")
print(sorted(name for name in new if name.startswith(unwanted) or name == "pgreact.settings"))
"""


def loaded_by(program: str, where: Path) -> str:
    """Return what a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=where,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_import_of_a_celery_application_loads_no_settings_no_logs_and_no_worker(tmp_path: Path) -> None:
    assert loaded_by(PROJECT, tmp_path) == "[]\n"


def test_settings_are_loaded_when_a_task_first_needs_the_database(tmp_path: Path) -> None:
    (tmp_path / "pgreact.toml").write_text('dsn = "dbname=file"\n')
    program = PROJECT + "from pgreact.worker.database import databases\nprint(databases[app].dsn)\n"
    assert loaded_by(program, tmp_path) == "[]\ndbname=file\n"


def test_every_event_of_the_workers_log_is_in_the_table() -> None:
    sources = Path(pgreact.__file__).parent.joinpath("worker")
    text = "".join(path.read_text() for path in sources.glob("*.py") if path.name != "__init__.py")
    used = set(re.findall(r'"((?!pgreact\.)[a-z]+\.[a-z_]+)(?=[":])', text))
    table = (sources / "__init__.py").read_text()
    assert used == set(re.findall(r"(?m)^([a-z]+\.[a-z_]+) +(?:debug|info|warning|error)", table))
