"""``pgreact schedule import beat``: from an application, and from the file that its Beat keeps."""

import datetime
import shelve
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery.beat import PersistentScheduler

from tests.command import Result, pgreact
from tests.harness import Database
from tests.import_app import app
from tests.timetable import row

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def ours(database: Database, installed: Callable[..., None]) -> Database:
    """A database with our schema."""
    installed(database)
    return database


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The file that Celery's own Beat writes, with runs of two entries."""
    file = tmp_path / "celerybeat-schedule"
    app.finalize()  # modules add their entries
    beat = PersistentScheduler(app, schedule_filename=str(file))
    for name, ago, runs in (("report", 3 * HOUR, 5), ("added later", HOUR / 2, 2), ("tick", HOUR, 0)):
        entry = beat.schedule[name]
        entry.last_run_at = (NOW - ago).astimezone(app.timezone)
        entry.total_run_count = runs
    beat.close()
    return file


def bring(database: Database, *arguments: str, app: str = "tests.import_app") -> Result:
    """Run the import."""
    return pgreact("-A", app, "schedule", "import", "beat", *arguments, dsn=database.dsn)


def report(database: Database, *arguments: str) -> dict[str, Any]:
    """Run the import; return its report."""
    return bring(database, "--json", *arguments).report()


def test_all_entries_are_imported_those_of_modules_too(ours: Database) -> None:
    found = report(ours)
    assert sorted(found["added"]) == ["added later", "celery.backend_cleanup", "report", "tick"]
    assert [entry["name"] for entry in found["skipped"]] == ["computed"]
    assert row(ours, "tick", "task", "every", "args", "origin", "delivery", "run_count") == (
        "proj.tick",
        datetime.timedelta(seconds=1),
        [1],
        "sql",
        "queue",
        0,
    )
    assert row(ours, "report", "cron", "timezone") == ("0 7 * * *", "Europe/Paris")


def test_what_celery_itself_adds_is_imported_where_it_would_add_it(
    ours: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(ours)
    assert row(ours, "celery.backend_cleanup", "cron", "expires") == ("0 4 * * *", 12 * HOUR)
    monkeypatch.setattr(app.backend, "supports_autoexpire", True)
    assert "celery.backend_cleanup" not in report(ours)["unchanged"]


def test_last_runs_come_from_the_file_of_beat(ours: Database, state: Path) -> None:
    report(ours, "--state", str(state))
    assert row(ours, "added later", "anchor", "last_run_at", "next_run_at", "run_count") == (
        NOW - HOUR / 2,
        NOW - HOUR / 2,
        NOW + HOUR / 2,
        2,
    )
    assert row(ours, "report", "last_run_at", "run_count") == (NOW - 3 * HOUR, 5)
    # it has never run, but was to an hour ago
    assert row(ours, "tick", "last_run_at", "anchor", "next_run_at", "run_count") == (
        None,
        NOW - HOUR,
        NOW - HOUR + datetime.timedelta(seconds=1),
        0,
    )


def test_the_second_time_nothing_changes(ours: Database, state: Path) -> None:
    first = report(ours, "--state", str(state))
    assert report(ours)["unchanged"] == first["added"]


def test_a_file_that_is_not_there_or_no_file_of_beat_is_named(ours: Database, tmp_path: Path) -> None:
    missing = bring(ours, "--state", "nowhere")
    assert (missing.code, "nowhere: no such file" in missing.err) == (2, True)
    other = tmp_path / "other"
    with shelve.open(str(other)) as kept:  # noqa: S301
        kept["x"] = 1
    (tmp_path / "text").write_text("hello")
    for name in ("other", "text"):
        said = bring(ours, "--state", name)
        assert (said.code, f"{name}: cannot be read" in said.err) == (1, True), said.err
    assert ours.value("select count(*) from pgreact.schedule") == 0


def test_an_application_is_needed_and_must_work(
    ours: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pgreact("schedule", "import", "beat", dsn=ours.dsn).code == 2
    (tmp_path / "proj_broken.py").write_text(
        "from celery import Celery\napp = Celery('x', broker='memory://', set_as_current=False)\n"
        "app.conf.imports = ['proj_missing']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = bring(ours, app="proj_broken")
    assert (said.code, "proj_missing" in said.err) == (1, True)
