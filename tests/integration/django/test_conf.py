"""pgreact's configuration from Django's settings."""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import connections
from django.test import override_settings
from django.test.utils import setup_databases, teardown_databases
from psycopg.conninfo import conninfo_to_dict

from pgreact import settings
from pgreact.django import conf
from pgreact.errors import ConfigError
from pgreact.postgres.connect import connect
from pgreact.settings import Settings
from pgreact.worker.database import WorkerDatabase
from tests import django_project
from tests.harness import Database

NOWHERE = {"ENGINE": "django.db.backends.postgresql", "NAME": "nowhere"}  # a test that connects has another


@pytest.fixture(autouse=True)
def _settings_of_django() -> Iterator[None]:
    with django_project.databases({"default": NOWHERE}):
        settings.use(conf.given)
        yield
        settings.use(None)


def load(environ: dict[str, str] | None = None, **setting: Any) -> Settings:
    """Return the configuration of a setting ``PGREACT`` for the example's application."""
    with override_settings(PGREACT={"APP": "shop", **setting}):
        return settings.load(None, environ or {})


def refused(**setting: Any) -> str:
    """Return the message for a setting with a mistake."""
    with pytest.raises(ConfigError) as caught:
        load(**setting)
    return str(caught.value)


def test_the_configuration_is_that_of_the_settings(shop: Database) -> None:
    loaded = settings.load(None, {})
    assert (loaded.app, loaded.source) == ("shop", "settings.PGREACT")
    assert loaded.lanes["mail"].max_in_progress == 5
    with Database(loaded.dsn).connect() as connection:
        assert connection.info.dbname == shop.value("select current_database()")


def test_the_environment_wins_over_the_settings() -> None:
    environ = {"PGREACT_DSN": "dbname=other", "PGREACT_LANES__MAIL__MAX_IN_PROGRESS": "7"}
    loaded = load(environ, LANES={"mail": {"max_in_progress": 5}})
    assert (loaded.dsn, loaded.lanes["mail"].max_in_progress) == ("dbname=other", 7)


def test_values_may_be_those_of_python() -> None:
    app = Celery("x", set_as_current=False)

    @app.task(name="orders.tasks.dispatch")
    def dispatch() -> None: ...

    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    loaded = load(
        ROUTES={
            "dispatch": {
                "task": dispatch,
                "window": datetime.timedelta(milliseconds=50),
                "tables": ({"table": "orders_order", "on": {"update", "insert"}, "changed": ("status",)},),
                "options": {"args": (1, start)},
            }
        },
        LANES={"mail": {"tasks": (dispatch,), "max_in_progress": None, "rate": 0.5}},
        OUTBOX=({"table": "orders_order", "enqueue": dispatch},),
        SCHEDULES={
            "clean": {
                "task": dispatch,
                "every": datetime.timedelta(minutes=10),
                "start_at": start,
                "args": (1,),
            }
        },
        QUEUE={"retention": datetime.timedelta(days=7)},
        web={"proxies": ("127.0.0.1",)},
        LISTEN_DSN=None,
        BROKER="",
    )
    route, schedule = loaded.routes["dispatch"], loaded.schedules["clean"]
    assert (route.task, route.window, route.tables[0].on) == (dispatch.name, 0.05, ("insert", "update"))
    assert route.options == {"args": [1, "2026-01-01T00:00:00+00:00"]}
    assert (loaded.lanes["mail"].tasks, loaded.outbox[0].enqueue) == ([dispatch.name], dispatch.name)
    assert (schedule.every, schedule.start_at, schedule.args) == (600.0, start, [1])
    assert loaded.queue.retention == 7 * 86400.0
    assert (loaded.listen_dsn, loaded.broker, loaded.web.proxies) == (None, None, ("127.0.0.1/32",))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ROUTES": {"dispatch": {}}}, "routes.dispatch.task: is missing"),
        ({"ROUTES": {"a": {"task": print}}}, "routes.a.task: <built-in function print> is no Celery task: "),
        ({"ROUTES": {"a": {"task": "t", "window": "5"}}}, 'routes.a.window: "5" has no unit: write "5s" or '),
        (
            {"ROUTES": {"a": {"task": "t", "options": {"x": b""}}}},
            "routes.a.options: b'' is of type bytes, wh",
        ),
        ({"ROUTES": {}, "Routes": {}}, "ROUTES and Routes are one key: leave one of them"),
        ({"ruotes": {}}, 'ruotes: unknown key "ruotes"; did you mean "routes"?'),
        ({"DATABSE": "x"}, 'databse: unknown key "databse"; did you mean "database"?'),
        ({"DATABASE": "defualt"}, 'DATABASE: no "defualt" in DATABASES; did you mean "default"?'),
        ({"DATABASE": ["default"]}, 'DATABASE: no "[\'default\']" in DATABASES; did you mean "default"?'),
        ({"LANES": {"mail": {"rate": "fast"}}}, "lanes.mail.rate: 'fast' is not a rate"),
        ({"SCHEDULES": {"a": {"task": "t"}}}, "schedules.a: does not recur: set exactly one of every, cron"),
        (
            {"SCHEDULES": {"a": {"task": "t", "every": datetime.timedelta(-1)}}},
            "schedules.a.every: datetime.timedelta(days=-1) is not a duration between",
        ),
        (
            {"SCHEDULES": {"a": {"task": "t", "every": "1h", "kwargs": {"x": datetime.timedelta(1)}}}},
            "schedules.a.kwargs: datetime.timedelta(days=1) is of type timedelta, which JSON cannot hold",
        ),
        (
            {"SCHEDULES": {"a": {"task": "t", "every": "1h", "kwargs": {"x": {(1,): 2}}}}},
            "schedules.a.kwargs: keys must be str, int",
        ),
        ({"OUTBOX": [{"table": "t"}]}, "outbox[0].enqueue: is missing"),
        ({"OUTBOX": {"table": "t"}}, "outbox: input should be a valid tuple"),
        ({"WEB": {"refresh": 0}}, "web.refresh: '0s' is not a duration between"),
        ({"LOG_LEVEL": "trace"}, "log_level: 'trace' is not known; there are: debug, error, info, warning"),
        ({"HTTP": "9187"}, "http: '9187' is not an address: write HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line(setting: dict[str, Any], message: str) -> None:
    [line] = refused(**setting).splitlines()
    assert line.startswith(f"settings.PGREACT: {message}")


def test_a_setting_that_is_no_dict_is_refused() -> None:
    with override_settings(PGREACT=["x"]), pytest.raises(ConfigError) as caught:
        settings.load(None, {})
    assert str(caught.value) == "settings.PGREACT is of type list, not a dict"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            'settings.PGREACT: DATABASE: "lite" is sqlite, and pgreact needs PostgreSQL: name another alias',
        ),
        ({"ENGINE": "django.db.backends.postgresql"}, "settings.DATABASES: lite: settings.DATABASES is imp"),
        ({"ENGINE": "nowhere"}, "settings.DATABASES: lite: 'nowhere' isn't an available database backend"),
    ],
)
def test_a_database_that_is_not_postgres_is_refused(entry: dict[str, Any], message: str) -> None:
    with django_project.databases({"lite": entry}):
        assert refused(DATABASE="lite").startswith(message)
        assert load({"PGREACT_DSN": "dbname=a"}, DATABASE="lite").dsn == "dbname=a"


def test_the_dsn_has_what_django_connects_with(tmp_path: Path) -> None:
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "ann o'hara",
        "PASSWORD": "p w'\\",
        "HOST": "/run/postgresql",
        "OPTIONS": {
            "sslmode": "verify-full",
            "sslrootcert": "/etc/ssl/ca.pem",
            "passfile": str(tmp_path / "passfile"),
            "pool": {"min_size": 1},
            "prepare_threshold": 5,
            "server_side_binding": True,
        },
    }
    with django_project.databases({"default": entry}):
        found = conninfo_to_dict(conf.dsn())
    assert found == {
        "dbname": "shop",
        "user": "ann o'hara",
        "password": "p w'\\",
        "host": "/run/postgresql",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ssl/ca.pem",
        "passfile": str(tmp_path / "passfile"),
        "client_encoding": "UTF8",
    }


def test_a_service_and_a_role_reach_the_sessions_of_pgreact(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = conninfo_to_dict(database.dsn)
    lines = (f"{key}={where[key]}" for key in ("host", "port", "dbname", "user", "password"))
    (tmp_path / "services").write_text("\n".join(["[shop]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    role = f"a role {where['dbname']}"
    database.run(f'create role "{role}"')
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {"service": "shop", "assume_role": role, "options": "-c work_mem=5MB"},
    }
    try:
        with django_project.databases({"default": entry}), connect(conf.dsn()) as session:
            found = session.execute("select current_user, current_setting('work_mem')").fetchone()
            with connections["default"].cursor() as cursor:
                cursor.execute("select current_user")
                assert cursor.fetchone() == (role,)
    finally:
        database.run(f'drop role "{role}"')
    assert found == (role, "5MB")


def test_the_dsn_of_a_test_run_is_that_of_the_test_database(shop: Database) -> None:
    name = shop.value("select current_database()")
    worker = WorkerDatabase(None)
    before = setup_databases(verbosity=0, interactive=False)
    try:
        assert conninfo_to_dict(conf.dsn())["dbname"] == f"test_{name}"
        assert conninfo_to_dict(worker.dsn)["dbname"] == f"test_{name}"
    finally:
        teardown_databases(before, verbosity=0)
    assert conninfo_to_dict(conf.dsn())["dbname"] == name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with settings, and a module of the Celery application two levels above them."""
    name = f"proj_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name / "settings").mkdir(parents=True)
    for module in ("__init__.py", "celery.py", "settings/__init__.py", "settings/prod.py"):
        (tmp_path / name / module).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{name}.settings.prod")
    return name


def test_the_application_is_found_as_celery_finds_it(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(PGREACT={}):
        assert conf.app() == project
        monkeypatch.setenv("CELERY_APP", "other.celery:app")
        assert conf.app() == "other.celery:app"
    with override_settings(PGREACT={"app": "named"}):
        assert conf.app() == "named"


def test_no_application_is_found_without_its_module(project: str, tmp_path: Path) -> None:
    (tmp_path / project / "celery.py").unlink()
    with override_settings(PGREACT={}):
        assert conf.app() is None
        del os.environ["DJANGO_SETTINGS_MODULE"]  # restored by the fixture
        assert conf.app() is None
