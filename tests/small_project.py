"""A small Django project in a folder, with settings of its own, run in processes of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from psycopg.conninfo import conninfo_to_dict

_SETTINGS = """
import os
SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["pgreact.django", "shop"]
SILENCED_SYSTEM_CHECKS = ["pgreact.E003"]  # it has no Celery application
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", **DATABASE}}
if "TEST_NAME" in os.environ:
    DATABASES["default"]["NAME"] = os.environ["TEST_NAME"]
"""
# each command as by itself; one that fails ends the process
_COMMANDS = """
import json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
from django.core.management import execute_from_command_line
for command in json.loads(sys.argv[1]):
    execute_from_command_line(["manage.py", *command])
"""


class Done(NamedTuple):
    """The end of a process."""

    code: int
    out: str
    err: str


class SmallProject:
    """A project with one app, ``shop``, on a database."""

    def __init__(self, root: Path, dsn: str, settings: str = "") -> None:
        where = conninfo_to_dict(dsn)
        entry = {name: where[name.lower()] for name in ("USER", "PASSWORD", "HOST", "PORT")}
        self.root = root
        self.write("project/__init__.py", "")
        head = f"DATABASE = { ({'NAME': where['dbname'], **entry})!r}\n"
        self.write("project/settings.py", head + textwrap.dedent(_SETTINGS) + textwrap.dedent(settings))
        self.app("shop")

    def app(self, name: str) -> None:
        """Add an app without models."""
        for file in ("__init__.py", "models.py", "migrations/__init__.py"):
            self.write(f"{name}/{file}", "")

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    def models(self, text: str) -> None:
        """Write the models of the shop."""
        self.write(
            "shop/models.py", "from django.db import models\nimport pgreact.django\n" + textwrap.dedent(text)
        )

    def migration(self, name: str, operations: str, *dependencies: tuple[str, str], head: str = "") -> None:
        """Write a migration of the shop."""
        self.write(
            f"shop/migrations/{name}.py",
            "from django.db import migrations, models\nfrom pgreact.django.operations import *\n"
            "class Migration(migrations.Migration):\n"
            f"    {head}\n    dependencies = {[*dependencies]!r}\n    operations = [{operations}]\n",
        )

    def run(self, *commands: str, **environ: str) -> Done:
        """Run commands of ``manage.py``, one after the other."""
        given = json.dumps([command.split() for command in commands])
        return self.python(_COMMANDS, given, **environ)

    def python(self, script: str, *arguments: str, **environ: str) -> Done:
        """Run a script in the project."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *arguments],
            cwd=self.root,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def manage(self, *commands: str, **environ: Any) -> str:
        """Run commands that must succeed; return their output."""
        done = self.run(*commands, **environ)
        assert done.code == 0, done.out + done.err
        return done.out
