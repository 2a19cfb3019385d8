"""Simple jobs: enqueue and enqueue_many insert the row that add_job inserts, without calling it."""

import json
from typing import Any

import psycopg
import pytest

from tests.queue_steps import Queue

PARAMETERS: tuple[dict[str, Any], ...] = (
    {},
    {"args": [1, "ä"], "kwargs": {"user_id": 42}, "lane": "mail"},
    {"priority": -3, "key": "k", "max_attempts": 4, "max_lost": 0, "backoff": "7 s"},
    {"run_at": "2999-01-01T00:00:00+00:00", "expires": "2999-01-02T00:00:00+00:00"},
    {"run_at": "2001-01-01T00:00:00+00:00", "unique_while": "in_progress"},
    {"options": {"queue": "mail"}},
    {"options": {"queue": "elsewhere"}, "task_id": "5ca1ab1e-0000-4000-8000-000000000001"},
    {"task": "expiring"},
    {"task": "never looked up"},
    {"task": "t", "lane": None, "args": None, "kwargs": None, "options": None, "max_attempts": None},
)
# columns that differ from row to row
COLUMNS = (
    "to_jsonb(q) - '{id,run_at,enqueued_at,expires,task_id}'::text[], "
    "q.run_at - q.enqueued_at, q.expires - q.enqueued_at"
)
TYPES = """
    task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, key text,
    unique_key text, max_attempts integer, backoff interval, expires timestamptz, options jsonb,
    unique_while text, task_id uuid, max_lost integer, trace jsonb
"""
NAMES = [part.split()[0] for part in TYPES.split(",")]


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue with a second lane and a task that the leader has looked up."""
    steps.run(
        "insert into pgreact.lane (name) values ('mail')",
        "insert into pgreact.task (name, queue, expires) values ('expiring', 'mail', '1 h')",
    )
    return steps


def rows_of(queue: Queue, statement: str) -> list[Any]:
    """Return the rows of a query."""
    with queue.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


@pytest.mark.parametrize("given", PARAMETERS, ids=str)
def test_a_simple_job_is_the_row_that_add_job_inserts(queue: Queue, given: dict[str, Any]) -> None:
    job = json.dumps({"task": "t", **given})
    named = ", ".join(f"{name} => j.{name}" for name in NAMES)
    ways = (
        f"pgreact.add_job(nextval('pgreact.queue_id_seq'), {', '.join(f'j.{name}' for name in NAMES)})",
        f"pgreact.enqueue({named})",
        "(select m.id from pgreact.enqueue_many(jsonb_build_array(%(job)s::jsonb)) m)",
    )
    rows = []
    with queue.connect(autocommit=False) as connection:
        connection.execute("set local track_functions = 'all'")
        for way in ways:
            connection.execute(
                f"select {way} from jsonb_to_record(%(job)s::jsonb) j ({TYPES})".encode(), {"job": job}
            )
            (row,) = connection.execute(f"select {COLUMNS} from pgreact.queue q".encode()).fetchall()
            # the time of an expiry that is given, not computed, is the same in all
            rows.append(row if not {"run_at", "expires"} & given.keys() else row[:1])
            calls = dict(
                connection.execute(
                    "select funcname, calls from pg_stat_xact_user_functions where funcname ~ '^(add|check)_'"
                ).fetchall()
            )
            # only the way by add_job itself has called it
            assert calls == {"add_job": 1, "check_job": 1, "check_lane": 1}
            connection.execute("delete from pgreact.queue")
        assert rows[1:] == rows[:1] * 2
        connection.rollback()


def test_a_list_of_tasks_holds_for_simple_jobs(queue: Queue) -> None:
    def refused(job: dict[str, Any]) -> bool:
        try:
            queue.run(f"select from pgreact.enqueue_many('{json.dumps([job])}')")
        except psycopg.errors.InsufficientPrivilege:
            many = True
        else:
            many = False
        lane = f"'{job['lane']}'" if "lane" in job else "null"
        options = json.dumps(job.get("options", {}))
        try:
            queue.run(f"select pgreact.enqueue('{job['task']}', lane => {lane}, options => '{options}')")
        except psycopg.errors.InsufficientPrivilege:
            assert many
        else:
            assert not many
        return many

    queue.run(
        "update pgreact.lane set tasks = '{t}' where name = 'default'",
        "update pgreact.lane set tasks = '{mail}' where name = 'mail'",
        "insert into pgreact.lane (name, origin) values ('celery', 'queue'), ('open', 'sql')",
    )
    assert not refused({"task": "t"})
    assert refused({"task": "other"})
    assert refused({"task": "t", "lane": "mail"})
    assert refused({"task": "t", "options": {"queue": "mail"}})
    assert not refused({"task": "mail", "lane": "mail"})
    # a lane of a Celery queue, or none yet, has the list of lane default
    assert refused({"task": "mail", "lane": "celery"})
    assert refused({"task": "mail", "options": {"queue": "unknown"}})
    assert not refused({"task": "t", "lane": "celery"})
    assert not refused({"task": "mail", "lane": "open"})
    queue.run("delete from pgreact.lane where name = 'default'")
    for call in (
        "pgreact.enqueue('t', lane => 'gone')",
        'pgreact.enqueue_many(\'[{"task": "t", "lane": "gone"}]\')',
    ):
        with pytest.raises(psycopg.errors.UndefinedObject, match='no lane "gone"'):
            queue.run(f"select {call}")
    queue.run("insert into pgreact.lane (name) values ('default')")


def test_a_list_keeps_its_order_when_some_of_its_jobs_are_not_simple(queue: Queue) -> None:
    jobs = [
        {"task": "t", "key": "a"},
        {"task": "t", "unique_key": "z"},
        {"task": "tä"},
        {"task": "t", "unique_key": "b"},
        {"task": "t", "unique_key": "z"},
        {"task": "t", "key": "a"},
    ]
    found = rows_of(queue, f"select id, task_id from pgreact.enqueue_many('{json.dumps(jobs)}')")
    assert found[4] == found[1]
    first = [row for index, row in enumerate(found) if index != 4]
    assert first == sorted(first)
    assert rows_of(queue, "select id, task_id from pgreact.queue order by id") == first
