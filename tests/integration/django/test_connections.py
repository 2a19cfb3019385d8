"""Jobs on Django's connections: persistent, lost, pooled, behind PgBouncer, and of each driver."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import OperationalError, connection, transaction

import pgreact
from tests import django_project, servers
from tests.harness import Database
from tests.worker import ROOT


@pytest.fixture
def queue(module_shop: Database) -> Database:
    """An empty queue."""
    module_shop.run("truncate pgreact.queue")
    return module_shop


def number(database: Database) -> int:
    """Return the number of jobs."""
    return int(database.value("select count(*) from pgreact.queue"))


def backend() -> int:
    """Return the process id of Django's session."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


def end_session(database: Database) -> None:
    """Let PostgreSQL end Django's session, as a restart does."""
    database.value("select pg_terminate_backend(%s, 5000)", backend())


def a_request() -> None:
    """Do what Django does before and after a request."""
    for signal in (request_started, request_finished):
        signal.send(sender=None, environ={})


def test_a_persistent_connection_is_one_session(queue: Database) -> None:
    with django_project.databases({"default": django_project.entry(queue.dsn, CONN_MAX_AGE=None)}):
        sessions = set()
        for _ in range(3):
            pgreact.django.enqueue("t")
            sessions.add(backend())
            a_request()
    assert (len(sessions), number(queue)) == (1, 3)


def test_with_health_checks_a_lost_session_costs_no_request(queue: Database) -> None:
    entry = django_project.entry(queue.dsn, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    with django_project.databases({"default": entry}):
        pgreact.django.enqueue("t")
        end_session(queue)
        a_request()
        with transaction.atomic():
            pgreact.django.enqueue("t")
    assert number(queue) == 2


def test_without_health_checks_a_lost_session_costs_one_request(queue: Database) -> None:
    with django_project.databases({"default": django_project.entry(queue.dsn, CONN_MAX_AGE=None)}):
        pgreact.django.enqueue("t")
        end_session(queue)
        a_request()
        with pytest.raises(OperationalError), transaction.atomic():
            pgreact.django.enqueue("lost")
        a_request()
        pgreact.django.enqueue("t")
    assert number(queue) == 2


def test_a_pool_gets_its_connections_back(queue: Database) -> None:
    options = {"pool": {"min_size": 1, "max_size": 2, "timeout": 10}, "application_name": "pooled"}
    with django_project.databases({"default": django_project.entry(queue.dsn, OPTIONS=options)}):
        pool = connection.pool  # of the process
        kept = threading.Barrier(2)

        def requests(_: int) -> None:
            kept.wait(10)
            for _ in range(25):
                with transaction.atomic():
                    pgreact.django.enqueue("t")
                connection.close()

        try:
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(requests, range(2)))
            sessions = queue.value(
                "select count(*) from pg_stat_activity "
                "where application_name = 'pooled' and datname = current_database()"
            )
            assert pool.get_stats()["pool_size"] == sessions <= 2
            assert number(queue) == 50
        finally:
            connection.close_pool()


@pytest.mark.parametrize("options", [{}, {"server_side_binding": True}, {"pool": {"min_size": 1}}])
def test_behind_pgbouncer_in_transaction_mode(queue: Database, options: dict[str, Any]) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(queue.dsn, default_pool_size="2") as bouncer:
        entry = django_project.entry(bouncer.url, DISABLE_SERVER_SIDE_CURSORS=True, OPTIONS=options)
        with django_project.databases({"default": entry}):

            def requests(_: int) -> None:
                for _ in range(5):
                    with transaction.atomic():
                        pgreact.django.enqueue("t")
                        pgreact.django.enqueue_many(["t", "t"])
                    pgreact.django.enqueue("t")
                connection.close()

            try:
                with ThreadPoolExecutor(4) as threads:
                    list(threads.map(requests, range(4)))
            finally:
                if "pool" in options:
                    connection.close_pool()
    assert number(queue) == 4 * 5 * 4


def test_persistent_connections_behind_pgbouncer_survive_its_restart(queue: Database) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(queue.dsn) as bouncer:
        entry = django_project.entry(
            bouncer.url, DISABLE_SERVER_SIDE_CURSORS=True, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True
        )
        with django_project.databases({"default": entry}):
            pgreact.django.enqueue("t")
            bouncer.kill()
            bouncer.start()
            a_request()
            pgreact.django.enqueue("t")
    assert number(queue) == 2


WITH_PSYCOPG2 = """
import json, sys
sys.modules["psycopg"] = None
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(sys.argv[1])})
import django
django.setup()
from django.db import connection, transaction
import pgreact
assert connection.Database.__name__ == "psycopg2", connection.Database
with transaction.atomic():
    job = pgreact.enqueue(connection, "t", [1], run_at=5)
    pgreact.enqueue_many(connection, ["t", "t"])
    assert job.task_id
connection.close()
"""


def test_an_application_without_psycopg_3_enqueues_by_psycopg2(queue: Database) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_PSYCOPG2, json.dumps(django_project.entry(queue.dsn))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert number(queue) == 3
