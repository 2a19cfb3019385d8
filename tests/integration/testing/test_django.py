"""The helpers in tests of a Django project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgreact.demo.postgres import EmbeddedPostgres
from tests import django_project

PROJECT_TESTS = """
import datetime

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase

import pgreact
from celery import shared_task
from pgreact.testing import assert_enqueued, assert_not_enqueued, drain, enqueued, freeze


@shared_task
def welcome(user):
    found = User.objects.get(pk=user)
    mail.send_mail("Welcome", "...", None, [found.email])
    User.objects.filter(pk=user).update(first_name="welcomed")


@shared_task
def breaks(user):
    User.objects.filter(pk=user).update(first_name="broken")
    User.objects.create(username="anna")  # IntegrityError


def sign_up():
    user = User.objects.create(username="anna", email="anna@example.org")
    pgreact.enqueue(connection, welcome, [user.pk], lane="mail")
    return user


class SignUpTest(TestCase):
    databases = {"default"}

    def test_the_mail_is_sent(self):
        user = sign_up()
        assert_enqueued(welcome, args=[user.pk], lane="mail")
        drain()
        assert_not_enqueued(welcome)
        self.assertEqual([message.to for message in mail.outbox], [["anna@example.org"]])
        user.refresh_from_db()
        self.assertEqual(user.first_name, "welcomed")

    def test_an_error_of_the_database_breaks_nothing(self):
        user = sign_up()
        pgreact.enqueue(connection, breaks, [user.pk])
        ran = drain(raise_errors=False)
        self.assertEqual([one.outcome for one in ran], ["done", "dead"])
        user.refresh_from_db()
        self.assertEqual(user.first_name, "welcomed")

    def test_time_moves(self):
        user = sign_up()
        with freeze("2030-01-01T00:00Z"):
            pgreact.enqueue(connection, welcome, [user.pk], run_at=datetime.timedelta(hours=1))
            self.assertEqual(len(drain()), 1)
            assert_enqueued(welcome, run_at=datetime.timedelta(hours=1))
            self.assertEqual(len(drain(until=datetime.timedelta(hours=1))), 1)

    def test_a_rollback_takes_the_job_along(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            sign_up()
            1 / 0
        assert_not_enqueued()


class CommittedTest(TransactionTestCase):
    def test_the_mail_is_sent(self):
        pgreact.enqueue(connection, welcome, [User.objects.create(username="b", email="b@example.org").pk])
        self.assertEqual([ran.outcome for ran in drain()], ["done"])
        with connection.cursor() as cursor:
            cursor.execute("delete from pgreact.dead")


def test_db(db):
    sign_up()
    assert len(drain()) == 1


@pytest.mark.django_db
def test_mark():
    assert enqueued() == []
    sign_up()
    drain()
    assert len(mail.outbox) == 1


def test_fixtures(pgreact_db, pgreact_worker):
    assert pgreact_db.alias == "default"
    assert pgreact_worker.app.main == "shop"
    sign_up()
    assert [ran.task.rpartition(".")[2] for ran in pgreact_worker.drain()] == ["welcome"]


def test_transactional(transactional_db):
    sign_up()
    assert len(drain()) == 1
"""

PROJECT_CONFTEST = """
import psycopg
import pytest

from pgreact import settings
from pgreact.apply import apply
from pgreact.django import conf


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    with psycopg.connect(conf.dsn(), autocommit=True) as connection:
        list(apply(connection, settings.load(None), 10.0, print))
        connection.execute("insert into pgreact.lane (name) values ('mail') on conflict do nothing")
"""


@pytest.fixture
def project(tmp_path: Path, postgres: EmbeddedPostgres) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of the example with tests, and the environment that names its database."""
    root = tmp_path / "shop"
    shutil.copytree(django_project.ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    (root / "test_sign_up.py").write_text(PROJECT_TESTS)
    (root / "conftest.py").write_text(PROJECT_CONFTEST)
    (root / "pytest.ini").write_text("[pytest]\n")  # in place of the example's own
    name = f"shop_{uuid4().hex[:8]}"
    where = conninfo_to_dict(postgres.dsn(dbname=name))
    environ = {
        **os.environ,
        "PGHOST": str(where["host"]),
        "PGPORT": str(where["port"]),
        "PGUSER": str(where["user"]),
        "PGPASSWORD": str(where["password"]),
        "PGDATABASE": name,
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "SHOP_BROKER_URL": "redis://127.0.0.1:1/0",
        "PYTHONPATH": str(root),
    }
    for variable in [found for found in environ if found.startswith("PYTEST_")]:
        del environ[variable]
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        yield root, environ
        admin.execute(f"drop database {name} with (force)".encode())


def test_a_project_tests_with_pytest_django(
    project: tuple[Path, dict[str, str]],
) -> None:
    root, environ = project
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
            "test_sign_up.py",
        ],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "9 passed" in ran.stdout
