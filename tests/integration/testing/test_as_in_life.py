"""The same jobs end in the same way in a drain as with a daemon and a worker."""

import contextlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery import chain

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.testing import drain, use
from tests import testing_app as tasks
from tests.harness import Daemon, Database, Late, eventually, fresh_database, install
from tests.worker import Worker


def enqueue_all(connection: Any) -> None:
    """Enqueue jobs of every kind."""
    add = pgreact.enqueue
    add(connection, tasks.note, ["plain"])
    for place in range(3):
        add(connection, tasks.note, [f"keyed {place}"], key="k", lane="narrow", priority=place)
    add(connection, tasks.fail, ["thrice"], max_attempts=3, backoff=0)
    add(connection, tasks.fail_in_sql)
    add(connection, tasks.retried, [2], {"countdown": 0})
    add(connection, tasks.retried, [9], {"countdown": 0})
    add(connection, tasks.replaced)
    add(connection, chain(tasks.note.s("a"), tasks.chained.s("b"), app=tasks.app))
    add(connection, tasks.note, ["linked"], options={"link": tasks.chained.s("after")})
    add(connection, tasks.fail, ["told"], options={"link_error": tasks.note.si("link_error")})
    add(connection, tasks.enqueues, [2])
    add(connection, tasks.sends)
    add(connection, "testing.missing")
    add(connection, tasks.note, ["paused"], lane="stopped")
    add(connection, tasks.note, ["expired"], expires=1e-6)
    add(connection, tasks.note, ["later"], run_at=3600)


def endings(connection: Any) -> dict[str, Any]:
    """Return how the jobs ended, and what tasks wrote."""
    return {
        name: connection.execute(statement).fetchall()
        for name, statement in {
            "history": "select task, attempt, outcome, count(*) from pgreact.history "
            "group by 1, 2, 3 order by 1, 2, 3",
            "dead": "select task, outcome, attempt from pgreact.dead order by 1, 2, 3",
            "left": "select task, args, state from pgreact.queue order by 1, 2",
            # what a task wrote before its SQL failed goes in a drain, whose tasks share a transaction
            "written": "select text, count(*) from public.written where text <> 'before' "
            "group by 1 order by 1",
            "in order": "select text from public.written where text like 'keyed%' order by id",
        }.items()
    }


@pytest.fixture
def twice(postgres: EmbeddedPostgres) -> Any:
    """Two databases with the same configuration."""
    with fresh_database(postgres) as one, fresh_database(postgres) as other:
        for database in (one, other):
            install(
                database,
                {
                    "lanes": {"narrow": {"max_in_progress": 1}, "stopped": {"paused": True}},
                    "queue": {"retention": "1d"},
                },
            )
            database.run("create table public.written (id serial, text text not null)")
        yield one, other


def test_a_drain_ends_as_a_daemon_and_a_worker_do(
    twice: tuple[Database, Database], redis_url: str, daemons: Callable[..., Daemon],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, drained = twice
    queue = f"q_{uuid4().hex[:8]}"
    # a failed task's effects stay in autocommit mode
    with drained.connect() as connection:
        monkeypatch.setattr(tasks, "connections", [connection])
        with use(connection, tasks.app):
            enqueue_all(connection)
            drain(raise_errors=False, atomic=False)
        expected = endings(connection)
    worker = Worker(
        redis_url, f"{queue},mail,narrow,stopped", "solo", 1,
        {"TASK_DSN": real.dsn, "TASK_QUEUE": queue}, app="tests.testing_app",
    )  # fmt: skip
    try:
        daemons(
            real.dsn, redis_url, arguments=("-A", "tests.testing_app"), environ={"TASK_QUEUE": queue}
        ).ready()
        with real.connect() as connection:
            enqueue_all(connection)
            with contextlib.suppress(Late):  # the comparison says what is missing
                eventually(lambda: endings(connection) == expected, "the same endings")
            found = endings(connection)
    finally:
        worker.stop()
    assert found == expected
