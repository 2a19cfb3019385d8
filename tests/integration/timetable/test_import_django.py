"""``pgreact schedule import django``: from the tables that django-celery-beat itself made."""

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests.command import Result, pgreact
from tests.django_tables import NOON
from tests.harness import Daemon, Database
from tests.timetable import row
from tests.worker import ROOT

Install = Callable[..., None]
HOUR = datetime.timedelta(hours=1)
CARRIED = [
    *(
        "all of it",
        "crontab",
        "friday the 13th",
        "sunset",
        "clocked",
        "disabled",
        "one-off",
        "bounded",
        "seldom",
    )
]


@pytest.fixture(scope="session")
def django_tables(postgres: EmbeddedPostgres) -> str:
    """The name of a database with django-celery-beat's tables, to copy."""
    name = f"django_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    command = [sys.executable, "-m", "tests.django_tables"]
    environ = {**os.environ, "PROJ_DSN": postgres.dsn(dbname=name)}
    subprocess.run(command, cwd=ROOT, env=environ, check=True)
    return name


@pytest.fixture(scope="session")
def django_dump(
    django_tables: str, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What Django's dumpdata writes of that database."""
    file = tmp_path_factory.mktemp("django") / "beat.json"
    command = [sys.executable, "-m", "tests.django_tables", str(file)]
    environ = {**os.environ, "PROJ_DSN": postgres.dsn(dbname=django_tables)}
    subprocess.run(command, cwd=ROOT, env=environ, check=True)
    return file


@pytest.fixture
def ours(postgres: EmbeddedPostgres, django_tables: str, installed: Install) -> Iterator[Database]:
    """A database with those tables and our schema."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name} template {django_tables}".encode())
    database = Database(postgres.dsn(dbname=name))
    installed(database)
    yield database
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)".encode())


def bring(database: Database, *arguments: str) -> Result:
    """Run the import."""
    return pgreact("schedule", "import", "django", *arguments, dsn=database.dsn)


def report(database: Database, *arguments: str) -> dict[str, Any]:
    """Run the import; return its report."""
    return bring(database, "--json", *arguments).report()


def task(database: Database, name: str, **columns: str) -> None:
    """Edit a task as Beat or its users do; columns are SQL."""
    sets = ", ".join(f"{column} = {value}" for column, value in columns.items())
    database.run(f"update django_celery_beat_periodictask set {sets} where name = '{name}'")


def test_all_that_beat_would_run_is_imported(ours: Database) -> None:
    found = report(ours)
    assert found["added"] == CARRIED
    assert row(ours, "all of it", "task", "every", "args", "kwargs", "description", "expires", "options") == (
        "proj.run",
        HOUR,
        [1, "ä"],
        {"deep": {"x": [1.5, None]}},
        "An hourly task",
        datetime.timedelta(seconds=90),
        {
            "queue": "mail",
            "exchange": "ex",
            "routing_key": "key",
            "priority": 3,
            "headers": {"tenant": "a"},
        },
    )
    assert row(ours, "crontab", "cron", "timezone", "cron_and") == (
        "0,30 7 * * mon-fri",
        "Europe/Paris",
        False,
    )
    assert row(ours, "friday the 13th", "cron", "timezone", "cron_and") == ("0 0 13 * fri", "UTC", True)
    assert row(ours, "sunset", "solar") == ("sunset 48.860000 2.350000",)
    assert row(ours, "clocked", "at", "max_runs") == (NOON, None)
    assert row(ours, "disabled", "enabled") == (False,)
    assert row(ours, "one-off", "max_runs", "enabled") == (1, True)
    assert row(ours, "bounded", "start_at", "end_at") == (NOON, NOON + datetime.timedelta(days=1))


def test_times_without_a_zone_are_in_djangos(ours: Database) -> None:
    ours.run(
        "alter table django_celery_beat_periodictask "
        "alter start_time type timestamp using start_time at time zone 'UTC'"
    )
    reasons = {entry["name"]: entry["reason"] for entry in report(ours)["skipped"]}
    assert "its start_time has no time zone, as with USE_TZ = False" in reasons["bounded"]
    report(ours, "--timezone", "Europe/Paris")
    assert row(ours, "in no zone", "timezone") == ("Europe/Paris",)
    assert row(ours, "crontab", "timezone") == ("Europe/Paris",)
    assert row(ours, "friday the 13th", "timezone") == ("UTC",)
    assert row(ours, "bounded", "start_at") == (NOON - HOUR,)
    assert bring(ours, "--timezone", "Mars/Olympus").code == 2


def test_no_arguments_at_all_may_be_written_as_null(ours: Database) -> None:
    report(ours)
    assert row(ours, "seldom", "args", "kwargs", "every") == ([], {}, datetime.timedelta(days=20 * 365))


def test_entries_that_beat_would_not_run_are_skipped_with_the_reason(ours: Database) -> None:
    reasons = {entry["name"]: entry["reason"] for entry in report(ours)["skipped"]}
    assert list(reasons) == [
        *("sunday by seven", "too often", "too seldom", "in no zone", "no headers", "no JSON", "nothing"),
        "a list for kwargs",
    ]
    assert 'its day_of_week is "7"' in reasons["sunday by seven"]
    assert "its interval is 50ms, and the shortest is 100ms" in reasons["too often"]
    assert "its interval is 2147483647d, and the longest is 36500d" in reasons["too seldom"]
    assert "its crontab has a blank time zone, which stands for Django's TIME_ZONE" in reasons["in no zone"]
    assert reasons["no headers"].startswith("headers: Expecting property name")
    assert reasons["no JSON"].startswith("kwargs: Expecting property name")
    assert "kwargs is a JSON array, not an object" in reasons["a list for kwargs"]
    assert "no schedule" in reasons["nothing"]


def test_an_interval_keeps_its_grid_and_its_count(ours: Database) -> None:
    task(ours, "all of it", last_run_at="now() - interval '10 min'")
    bring(ours)
    last = ours.value("select last_run_at from django_celery_beat_periodictask where name = 'all of it'")
    assert row(ours, "all of it", "anchor", "last_run_at", "last_nominal_at", "run_count") == (
        last,
        last,
        last,
        7,
    )
    assert row(ours, "all of it", "next_nominal_at", "next_run_at") == (last + HOUR, last + HOUR)


def test_overdue_occurrences_are_fired_once(
    ours: Database, redis_url: str, daemons: Callable[..., Daemon]
) -> None:
    task(ours, "all of it", last_run_at="now() - interval '150 min'")
    task(ours, "one-off", start_time="now() - interval '1 min'")
    task(ours, "bounded", last_run_at="now() - interval '2 min'", start_time="null", expires="null")
    task(ours, "disabled", last_run_at="now() - interval '150 min'")
    bring(ours)
    daemon = daemons(ours.dsn, redis_url).ready()
    fired = {daemon.wait_for("schedule.fired", n)["schedule"] for n in (1, 2)}
    assert fired == {"all of it", "one-off"}
    ours.until("select count(*) = 1 from pgreact.schedule where name = 'bounded' and state = 'planned'")
    assert row(ours, "all of it", "run_count", "next_run_at - anchor") == (8, 3 * HOUR)
    assert row(ours, "one-off", "run_count", "state") == (1, "ended")
    assert row(ours, "bounded", "run_count", "next_run_at - anchor") == (0, HOUR)
    assert row(ours, "disabled", "run_count") == (0,)


def test_one_off_that_ran_does_not_run_again(
    ours: Database, redis_url: str, daemons: Callable[..., Daemon]
) -> None:
    ours.run("update django_celery_beat_clockedschedule set clocked_time = now() - interval '1 min'")
    task(ours, "clocked", last_run_at="now() - interval '1 min'", total_run_count="1")
    task(ours, "one-off", last_run_at="now() - interval '2 h'", total_run_count="1")
    bring(ours)
    daemons(ours.dsn, redis_url).ready()
    ours.until("select count(*) = 2 from pgreact.schedule where state = 'ended'")
    for name in ("clocked", "one-off"):
        assert row(ours, name, "run_count", "last_job") == (1, None)


def test_clocked_task_whose_time_has_passed_is_due(
    ours: Database, redis_url: str, daemons: Callable[..., Daemon]
) -> None:
    ours.run("update django_celery_beat_clockedschedule set clocked_time = now() - interval '1 min'")
    bring(ours)
    assert daemons(ours.dsn, redis_url).ready().wait_for("schedule.fired")["schedule"] == "clocked"


def test_second_import_writes_changed_entries_only(ours: Database) -> None:
    first = report(ours)
    ours.run("update pgreact.schedule set every = '2 h' where name in ('all of it', 'one-off')")
    again = report(ours)
    assert (again["added"], again["changed"]) == ([], [])
    assert again["unchanged"] == first["added"]
    task(ours, "all of it", queue="'other'", last_run_at="now()")
    assert report(ours)["changed"] == ["all of it"]
    assert row(ours, "all of it", "every", "options ->> 'queue'") == (HOUR, "other")
    assert row(ours, "one-off", "every") == (2 * HOUR,)


def test_a_careful_move(ours: Database, redis_url: str, daemons: Callable[..., Daemon]) -> None:
    task(ours, "all of it", last_run_at="now() - interval '70 min'")
    bring(ours, "--disabled")
    assert ours.value("select bool_or(enabled) from pgreact.schedule") is False
    daemon = daemons(ours.dsn, redis_url).ready()
    # Beat goes on meanwhile, and is stopped; then an hour passes
    task(ours, "all of it", last_run_at="now() - interval '65 min'", total_run_count="8")
    found = report(ours)
    assert "disabled" in found["unchanged"]
    assert "all of it" in found["changed"]
    assert daemon.wait_for("schedule.fired")["schedule"] == "all of it"
    last = ours.value("select last_run_at from django_celery_beat_periodictask where name = 'all of it'")
    assert row(ours, "all of it", "anchor", "run_count", "next_run_at - anchor") == (last, 9, 2 * HOUR)


def test_shadow_does_not_expect_entries_disabled_in_their_source(ours: Database) -> None:
    bring(ours, "--disabled")
    shadow = ("-b", "memory://", "schedule", "shadow", "--for", "10ms")
    assert "watching 8 schedules" in pgreact(*shadow, "--disabled", dsn=ours.dsn).err
    assert "disabled" not in report(ours)["changed"]
    assert "watching 8 schedules" in pgreact(*shadow, dsn=ours.dsn).err


def test_nothing_is_written_by_a_dry_run(ours: Database) -> None:
    said = bring(ours, "--dry-run")
    assert said.code == 0
    assert said.out.splitlines()[0] == "+ all of it"
    assert said.out.splitlines()[-1] == ("9 added, 0 changed, 0 unchanged, 8 skipped; nothing was written")
    assert ours.value("select count(*) from pgreact.schedule") == 0


def test_strict_exits_1_if_an_entry_is_skipped(ours: Database) -> None:
    said = bring(ours, "--strict")
    assert said.code == 1
    assert "! nothing: it has no schedule" in said.out
    assert ours.value("select count(*) from pgreact.schedule") == 9


def test_messages_may_be_sent_directly(ours: Database) -> None:
    bring(ours, "--delivery", "direct")
    assert ours.value("select array_agg(distinct delivery) from pgreact.schedule") == ["direct"]


def test_the_tables_may_be_in_another_database_and_schema(
    ours: Database, database: Database, installed: Install
) -> None:
    installed(database)
    ours.run(
        'create schema "Web"',
        *(
            f'alter table django_celery_beat_{name} set schema "Web"'
            for name in (
                "periodictask",
                "intervalschedule",
                "crontabschedule",
                "solarschedule",
                "clockedschedule",
            )
        ),
    )
    missing = bring(database, "--from", ours.dsn)
    assert missing.code == 2
    assert "no tables of django-celery-beat" in missing.err
    assert len(report(database, "--from", ours.dsn, "--schema", "Web")["added"]) == 9
    assert ours.value("select count(*) from pgreact.schedule") == 0


def test_a_dump_brings_what_the_tables_would(ours: Database, django_dump: Path) -> None:
    tables = report(ours, "--timezone", "Europe/Paris")
    revisions = "select array_agg(revision order by name) from pgreact.schedule"
    before = ours.value(revisions)
    dumped = report(ours, "--dump", str(django_dump), "--timezone", "Europe/Paris")
    assert (dumped["unchanged"], dumped["skipped"]) == (tables["added"], tables["skipped"])
    assert ours.value(revisions) == before


def test_a_dump_of_an_old_version_is_read_too(ours: Database, tmp_path: Path) -> None:
    model = "django_celery_beat."
    old = [
        {"model": f"{model}intervalschedule", "pk": 1, "fields": {"every": 1, "period": "hours"}},
        {"model": f"{model}crontabschedule", "pk": 1, "fields": {"minute": "5", "hour": "*"}},
        {
            "model": f"{model}periodictask",
            "pk": 1,
            "fields": {"name": "a", "task": "t", "interval": 1, "args": "[1]"},
        },
        {"model": f"{model}periodictask", "pk": 2, "fields": {"name": "b", "task": "t", "crontab": 1}},
        {"model": f"{model}periodictask", "pk": 3, "fields": {"name": "c", "task": "t", "crontab": 9}},
        {
            "model": f"{model}periodictask",
            "pk": 4,
            "fields": {"name": "d", "task": "t", "interval": 1, "expires": 7},
        },
    ]
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = report(ours, "--dump", "old.json", "--timezone", "UTC")
    assert found["added"] == ["a", "b"]
    assert [entry["name"] for entry in found["skipped"]] == ["c", "d"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", 'not an output of "python manage.py dumpdata django_celery_beat"'),
        ("[1]", "not an output of"),
        ("[]", "has no periodic tasks of django-celery-beat"),
    ],
)
def test_a_file_that_is_no_dump_is_named(
    ours: Database, tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "beat.json").write_text(text)
    said = bring(ours, "--dump", "beat.json")
    assert (said.code, said.err.startswith("pgreact: beat.json: "), words in said.err) == (2, True, True)
    assert bring(ours, "--dump", "beat.json", "--from", ours.dsn).code == 2


@pytest.mark.parametrize("source", ["mysql://root@db/shop", "sqlite:///db.sqlite3", "db.sqlite3"])
def test_another_database_is_named_with_the_way_to_move(ours: Database, tmp_path: Path, source: str) -> None:
    (tmp_path / "db.sqlite3").write_bytes(b"SQLite format 3")
    said = bring(ours, "--from", source)
    assert said.code == 2
    assert "PostgreSQL" in said.err
    assert (
        'python manage.py dumpdata django_celery_beat > beat.json" and import the file with --dump'
        in said.err
    )


@pytest.mark.parametrize(
    "change",
    [
        "alter table django_celery_beat_periodictask drop column expire_seconds",
        "alter table django_celery_beat_clockedschedule rename to other",
    ],
)
def test_tables_of_an_old_version_are_named_as_such(ours: Database, change: str) -> None:
    ours.run(change)
    said = bring(ours)
    assert said.code == 2
    assert "the tables are of a django-celery-beat before 2.1; upgrade it and run its migrations" in said.err
    assert "--dump" in said.err
