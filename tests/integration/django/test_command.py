"""``manage.py pgreact``, and other programs that take Django's settings."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, execute_from_command_line
from django.db import connection

from pgreact import settings
from pgreact.django import conf
from tests import django_project
from tests.django_project import ROOT
from tests.harness import Daemon, Database, eventually
from tests.worker import Worker


@pytest.fixture
def given(shop: Database) -> Iterator[None]:
    settings.use(conf.given)
    yield
    settings.use(None)


@pytest.fixture
def deployed(shop: Database, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables of a process whose database only Django's settings name: libpq's lead nowhere.

    An app of the project connects at the start.
    """
    entry = django_project.entry(shop.dsn)
    (tmp_path / "connects").mkdir()
    (tmp_path / "connects" / "__init__.py").write_text("")
    (tmp_path / "connects" / "apps.py").write_text(
        "from django.apps import AppConfig\nfrom django.db import connection\n"
        "class Connects(AppConfig):\n    name = 'connects'\n"
        "    def ready(self): connection.ensure_connection()\n"
    )
    (tmp_path / "deployed.py").write_text(
        f"from shop.settings import *\nDATABASES = {{'default': {entry!r}}}\n"
        f"CELERY_BROKER_URL = {redis_url!r}\nPGREACT = {{**PGREACT, 'APP': 'shop'}}\n"
        "INSTALLED_APPS += ['connects']\n"
    )
    return {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "deployed",
        "PGHOST": "/nowhere",
        "PGDATABASE": "nowhere",
    }


def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``manage.py pgreact ARGUMENTS`` in this process; return exit code and output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        execute_from_command_line(["/srv/manage.py", "pgreact", *arguments])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.usefixtures("given")
def test_a_command_runs_with_the_settings_of_django() -> None:
    out = io.StringIO()
    assert call_command("pgreact", "apply", "--json", stdout=out) is None
    assert "lane mail" in json.dumps(json.loads(out.getvalue()))
    out = io.StringIO()
    call_command("pgreact", "--dsn", conf.dsn(), "apply", stdout=out)
    assert out.getvalue() == "Nothing to change.\n"


@pytest.mark.usefixtures("given")
def test_a_failed_command_is_an_error_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    err = io.StringIO()
    with pytest.raises(CommandError, match="pgreact status --json: exit code 1") as caught:
        call_command("pgreact", "status", "--json")
    assert caught.value.returncode == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False
    with pytest.raises(CommandError) as caught:
        call_command("pgreact", "signal", "pakcing", stderr=err)
    assert caught.value.returncode == 2
    assert err.getvalue().startswith('pgreact: no route "pakcing"; ')


@pytest.mark.usefixtures("given")
def test_a_command_leaves_the_transaction_of_its_caller_open() -> None:
    with connection.cursor() as cursor:
        cursor.execute("create temporary table kept ()")
        call_command("pgreact", "--help", stdout=io.StringIO())
        cursor.execute("select from kept")


@pytest.mark.usefixtures("given")
def test_exit_codes_reach_the_shell() -> None:
    assert run("status")[0] == 1
    assert run("queue", "list")[0] == 0
    code, _, err = run("statsu")
    assert (code, err.splitlines()[-1]) == (2, "Error: No such command 'statsu'; did you mean \"status\"?")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGREACT_LOG_LEVEL", "trace")
        code, _, err = run("status")
    assert (code, err.partition(":")[0]) == (2, "pgreact")
    assert "PGREACT_LOG_LEVEL" in err


@pytest.mark.usefixtures("given")
def test_the_demo_is_no_command_of_a_project() -> None:
    assert run("demo")[0] == 2


def test_the_help_names_the_program() -> None:
    django_project.setup()
    code, out, _ = run("--help")
    assert (code, out.partition("\n")[0]) == (0, "Usage: manage.py pgreact [OPTIONS] COMMAND [ARGS]...")
    assert "--settings MODULE" in out
    _, out, _ = run("queue", "list", "--help")
    assert out.startswith("Usage: manage.py pgreact queue list [OPTIONS]")


@pytest.mark.usefixtures("given")
def test_options_of_django_stand_before_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "before")  # Django's --settings replaces it
    monkeypatch.setenv("NO_COLOR", "")
    here = [*sys.path]
    code, _, err = run(
        *("--settings", "shop.settings", "--pythonpath=/extra", "--no-color", "--traceback"),
        *("-A", "shop", "signal", "pakcing"),
    )
    assert os.environ["DJANGO_SETTINGS_MODULE"] == "shop.settings"
    assert os.environ["NO_COLOR"] == "1"
    assert sys.path.pop(0) == "/extra"
    assert sys.path == here
    assert code == 2
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith('pgreact: no route "pakcing"; ')


def test_help_and_completion_of_manage_py_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    django_project.setup()
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(["manage.py", "help", "pgreact"])
    assert (ended.value.code, capsys.readouterr().out.partition("[")[0]) == (0, "Usage: manage.py pgreact ")
    monkeypatch.setenv("DJANGO_AUTO_COMPLETE", "1")
    monkeypatch.setenv("COMP_WORDS", "manage.py pgreact --se")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        execute_from_command_line(["manage.py"])
    assert capsys.readouterr().out == "--settings=\n"


def test_the_daemon_runs_with_the_settings_of_django_and_ends_at_sigterm(
    deployed: dict[str, str], daemons: Callable[..., Daemon], shop: Database, redis_url: str
) -> None:
    program = (str(ROOT / "manage.py"), "pgreact", "--settings", "deployed")
    daemon = daemons(None, None, environ=deployed, program=program).ready()
    started = daemon.seen("daemon.started")[0]
    assert started["database"].split()[2] == f"dbname={shop.value('select current_database()')}"
    assert started["config"] == "settings.PGREACT"
    assert started["celery"].rpartition("@")[2] == redis_url.rpartition("@")[2]
    others = "application_name not like 'pgreact %' and pid <> pg_backend_pid()"
    # the daemon keeps none of Django's connections; a closed session takes a moment to end
    shop.until(f"select count(*) = 0 from pg_stat_activity where datname = current_database() and {others}")
    assert daemon.stop() == 0


def test_pgreact_outside_of_manage_py_takes_the_settings_that_the_environment_names(
    deployed: dict[str, str], daemons: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = daemons(None, None, environ=deployed, arguments=("-A", "shop")).ready()
    assert daemon.seen("daemon.started")[0]["config"] == "settings.PGREACT"
    (tmp_path / "pgreact.toml").write_text('log_level = "trace"')

    def status(**environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pgreact", "status"],
            env={**os.environ, **deployed, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip()

    assert status(PGREACT_CONFIG="pgreact.toml").startswith("pgreact: pgreact.toml: log_level: 'trace'")
    assert status(DJANGO_SETTINGS_MODULE="deplyed") == (
        "pgreact: DJANGO_SETTINGS_MODULE=deplyed: ModuleNotFoundError: No module named 'deplyed'"
    )


def test_worker_and_beat_use_the_database_of_django(
    deployed: dict[str, str], shop: Database, redis_url: str
) -> None:
    name = shop.value("select current_database()")
    worker = Worker(redis_url, "shop", "solo", 1, deployed, app="shop")
    beat = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "shop", "beat", "-S", "pgreact"],
        env={**os.environ, **deployed},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert f"dbname={name}" in worker.wait_for_log("runs jobs of")
        eventually(
            lambda: shop.value(
                "select exists (select from pg_stat_activity where application_name like 'pgreact beat%' "
                "and datname = current_database())"
            ),
            "Beat has a session",
        )
    finally:
        worker.stop()
        beat.send_signal(signal.SIGTERM)
        out, _ = beat.communicate(timeout=20)
    assert f"dbname={name}" in out
