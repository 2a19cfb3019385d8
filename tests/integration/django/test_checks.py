"""The system checks: each finds its mistake, and a healthy project has none."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, Error, run_checks
from django.core.checks.registry import registry
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from pgreact import settings
from pgreact.django import checks, conf, outbox
from tests import django_project
from tests.harness import Database

NOWHERE = {"ENGINE": "django.db.backends.postgresql", "NAME": "nowhere", "HOST": "/nowhere"}
EACH_WAY = {
    "ROUTES": {
        "dispatch": {
            "task": "orders.tasks.send_receipt",
            "tables": [{"table": "orders_order", "on": ["insert"]}],
        }
    },
    "LANES": {"mail": {"tasks": ["orders.tasks.send_receipt"]}},
    "OUTBOX": [{"table": "public.orders_order", "enqueue": "orders.tasks.send_receipt"}],
    "SCHEDULES": {"clean": {"task": "orders.tasks.send_receipt", "every": "1h"}},
}


@pytest.fixture(autouse=True)
def _settings_of_django() -> Iterator[None]:
    with django_project.databases({"default": NOWHERE}):
        settings.use(conf.given)
        yield
        settings.use(None)


def found(*, deploy: bool = False, databases: list[str] | None = None, **setting: Any) -> list[CheckMessage]:
    """Return what the checks of the app find for a setting ``PGREACT``."""
    with override_settings(PGREACT={"APP": "shop", **setting}):
        return run_checks(
            app_configs=[apps.get_app_config("pgreact")],
            tags=[checks.TAG],
            include_deployment_checks=deploy,
            databases=databases,
        )


def the_only(messages: list[CheckMessage], code: str) -> tuple[str, str]:
    """Return text and hint of the one message that was found."""
    [message] = messages
    assert message.id == f"pgreact.{code}"
    assert isinstance(message, Error) == code.startswith("E")
    return str(message.msg), str(message.hint)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module with a Celery application named ``app``; return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"celery_{uuid4().hex[:12]}"
        (tmp_path / f"{name}.py").write_text(
            "from celery import Celery\nimport pgreact\napp = Celery('x', broker='memory://', "
            f"set_as_current=False)\n{text}\n"
        )
        return name

    return write


def test_a_healthy_project_has_no_findings(shop: Database) -> None:
    assert found(deploy=True, databases=["default"], **EACH_WAY) == []


def test_no_database_is_asked_unless_it_is_named() -> None:
    assert found(deploy=True, **EACH_WAY) == []
    text, hint = the_only(found(databases=["default"], **EACH_WAY), "E008")
    assert "/nowhere" in text
    assert hint == "See DATABASES['default'], and whether the server runs."


def test_other_apps_are_checked_without_pgreact() -> None:
    with override_settings(PGREACT={"NONSENSE": 1}):
        assert run_checks(app_configs=[apps.get_app_config("orders")], tags=[checks.TAG]) == []


def test_no_check_runs_twice_since_celery_runs_them_before_it_imports_tasks() -> None:
    called: list[object] = []

    def counted(**_: Any) -> list[CheckMessage]:
        called.append(1)
        return []

    registry.register(counted, "counted")
    try:
        assert found(**EACH_WAY) == []
    finally:
        registry.registered_checks.discard(counted)
    assert called == []
    assert "CELERY_SKIP_CHECKS" not in os.environ


def test_e001_each_mistake_of_the_setting_is_a_finding() -> None:
    messages = found(deploy=True, databases=["default"], ROUTES={"a": {}, "b": {"task": "t", "window": "x"}})
    assert {message.id for message in messages} == {"pgreact.E001"}
    assert [str(message.msg).partition(": write")[0] for message in messages] == [
        "settings.PGREACT: routes.a.task: is missing",
        "settings.PGREACT: routes.b.window: 'x' is not a duration",
    ]
    assert "docs/configuration.md" in str(messages[0].hint)


def test_e001_an_unknown_alias_is_a_finding() -> None:
    text, _ = the_only(found(databases=["default"], DATABASE="defualt"), "E001")
    assert text.endswith('no "defualt" in DATABASES; did you mean "default"?')


def test_e002_a_database_that_is_not_postgres_is_a_finding() -> None:
    lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with django_project.databases({"lite": lite}):
        text, hint = the_only(found(databases=["lite"], DATABASE="lite"), "E002")
    assert text == 'The database "lite" is sqlite, not PostgreSQL.'
    assert 'PGREACT = {"DATABASE": "…"}' in hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("app.conf.imports = ['nowhere']; pgreact.setup(app)", "No module named 'nowhere'"),
    ],
)
def test_e003_an_application_that_cannot_be_imported_is_a_finding(
    module: Callable[[str], str], text: str, reason: str
) -> None:
    said, hint = the_only(found(deploy=True, APP=module(text)), "E003")
    assert reason in said
    assert 'PGREACT = {"APP": "shop"}' in hint


def test_e003_no_application_is_a_finding() -> None:
    text, _ = the_only(found(deploy=True, APP=None), "E003")
    assert text.startswith("No Celery application is known")


def test_e004_an_application_that_does_not_call_setup_is_a_finding(module: Callable[[str], str]) -> None:
    name = module("")
    text, hint = the_only(found(APP=name), "E004")
    assert f'"{name}" does not call pgreact.setup' in text
    assert "pgreact.setup(app)" in hint


def test_e005_each_unknown_task_is_a_finding() -> None:
    wrong = "orders.tasks.send_reciept"
    messages = found(
        ROUTES={"dispatch": {"task": wrong}},
        LANES={"mail": {"tasks": [wrong]}},
        OUTBOX=[{"table": "orders_order", "enqueue": wrong}],
        SCHEDULES={"clean": {"task": wrong, "every": "1h"}},
    )
    assert {message.id for message in messages} == {"pgreact.E005"}
    places = ("routes.dispatch.task", "outbox[0].enqueue", "schedules.clean.task", "lanes.mail.tasks[0]")
    assert [message.msg for message in messages] == [
        f'settings.PGREACT: {place}: no task "{wrong}" in shop; did you mean "orders.tasks.send_receipt"?'
        for place in places
    ]
    assert "autodiscover_tasks()" in str(messages[0].hint)


def test_e005_an_unknown_task_of_a_declaration_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = apps.get_model("auth", "Group")
    monkeypatch.setattr(model._meta, "constraints", [])
    monkeypatch.setitem(model._meta.original_attrs, "constraints", [])
    outbox(model, enqueue="orders.tasks.send_reciept")
    text, _ = the_only(found(), "E005")
    assert text.startswith('auth.Group: outbox "orders.tasks.send_reciept": no task')


def test_e006_an_old_server_is_a_finding(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST", 99)
    text, hint = the_only(found(databases=["default"], **EACH_WAY), "E006")
    assert text.endswith("pgreact needs 99 or later.")
    assert hint.startswith("Upgrade the server")


def test_e007_each_missing_table_is_a_finding(shop: Database) -> None:
    wrong = {
        "ROUTES": {
            "dispatch": {
                "task": "orders.tasks.send_receipt",
                "tables": [{"table": "orders_ordre", "on": ["insert"]}],
            }
        },
        "OUTBOX": [{"table": "shop.orders_order", "enqueue": "orders.tasks.send_receipt"}],
    }
    messages = found(databases=["default"], **wrong)
    assert {message.id for message in messages} == {"pgreact.E007"}
    assert [str(message.msg).partition(";")[0] for message in messages] == [
        'settings.PGREACT: routes.dispatch.tables[0].table: no table "orders_ordre" in the database',
        'settings.PGREACT: outbox[0].table: no table "shop.orders_order" in the database',
    ]
    assert "manage.py migrate" in str(messages[0].hint)
    # a migration that has not run may make the table: "migrate" itself must pass its checks
    from django.db import connection

    MigrationRecorder(connection).record_unapplied("orders", "0001_initial")
    assert found(databases=["default"], **wrong) == []


@pytest.mark.parametrize(
    ("text", "code", "said", "command"),
    [
        (
            "app.conf.beat_schedule = {'a': {'task': 't', 'schedule': 5}}",
            "W001",
            "has 1 entry",
            "import beat",
        ),
        (
            "app.conf.beat_scheduler = 'django_celery_beat.schedulers:DatabaseScheduler'",
            "W002",
            "django_celery_beat.schedulers:DatabaseScheduler is configured",
            "import django",
        ),
        ("app.conf.beat_scheduler = 'redbeat.RedBeatScheduler'", "W002", "redbeat", "import redbeat"),
    ],
)
def test_beat_beside_the_timetable_is_a_finding(
    module: Callable[[str], str], text: str, code: str, said: str, command: str
) -> None:
    message, hint = the_only(found(APP=module(f"pgreact.setup(app)\n{text}")), code)
    assert said in message
    assert f"manage.py pgreact schedule {command}" in hint
    assert f'SILENCED_SYSTEM_CHECKS = ["pgreact.{code}"]' in hint


@pytest.mark.parametrize("scheduler", ["pgreact", "pgreact.beat:PgreactScheduler"])
def test_beat_with_the_timetable_is_no_finding(module: Callable[[str], str], scheduler: str) -> None:
    text = f"""
pgreact.setup(app)
app.conf.beat_scheduler = {scheduler!r}
app.conf.beat_schedule = {{'a': {{'task': 't', 'schedule': 5}}}}
"""
    assert found(APP=module(text)) == []


def test_w002_an_installed_django_celery_beat_is_a_finding(tmp_path: Path) -> None:
    # in a process of its own: the admin would keep the models of the app
    (tmp_path / "with_beat.py").write_text(
        "from shop.settings import *\nINSTALLED_APPS += ['django_celery_beat']\n"
        "PGREACT = {**PGREACT, 'APP': 'shop'}\n"
    )
    environ = {
        "DJANGO_SETTINGS_MODULE": "with_beat",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(django_project.ROOT)]),
    }
    done = django_project.manage("check", "--tag", checks.TAG, environ=environ)
    assert (done.returncode, done.stderr.count("pgreact.")) == (0, 2)  # the finding, and how to silence it
    assert "(pgreact.W002) django_celery_beat is configured beside pgreact's timetable" in done.stderr


def test_w003_a_pooler_without_a_direct_way_is_a_finding() -> None:
    with django_project.databases({"default": {**NOWHERE, "DISABLE_SERVER_SIDE_CURSORS": True}}):
        text, hint = the_only(found(), "W003")
        assert found(LISTEN_DSN="host=primary dbname=shop") == []
    assert "DISABLE_SERVER_SIDE_CURSORS" in text
    assert 'PGREACT["LISTEN_DSN"]' in hint


def test_w004_eager_tasks_are_a_finding_at_deployment(module: Callable[[str], str]) -> None:
    name = module("pgreact.setup(app)\napp.conf.task_always_eager = True")
    assert found(APP=name) == []
    text, hint = the_only(found(deploy=True, APP=name), "W004")
    assert "task_always_eager" in text
    assert "CELERY_TASK_ALWAYS_EAGER" in hint
