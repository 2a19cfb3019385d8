"""Jobs of an application with ``task_always_eager``: they run at once, as its calls by ``delay()`` do."""

from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import psycopg
import pytest
from celery import Celery

import pgreact
from pgreact import Enqueued, Job

ran: list[tuple[Any, ...]] = []


@pytest.fixture
def app() -> Celery:
    """An application that runs its tasks at once."""
    ran.clear()
    made = Celery("eager", set_as_current=False)
    made.conf.update(task_always_eager=True, task_eager_propagates=True)

    @made.task(name="eager.add", shared=False)
    def add(x: int, y: int = 0) -> int:
        ran.append((x, y))
        return x + y

    @made.task(name="eager.fail", shared=False)
    def fail() -> None:
        raise LookupError("as told")

    return made


def test_a_task_runs_at_once_without_a_word_to_the_database(app: Celery) -> None:
    add = app.tasks["eager.add"]
    given = str(uuid4())
    connection = Mock(spec=psycopg.Connection)
    done = pgreact.enqueue(connection, add, [1], {"y": 2}, run_at=3600, lane="x", task_id=given)
    assert (type(done), int(done), done.task_id) == (Enqueued, 0, given)
    pgreact.enqueue(connection, add.s(3, y=4))
    assert ran == [(1, 2), (3, 4)]


def test_its_error_is_the_callers_if_celery_is_told_so(app: Celery) -> None:
    fail = app.tasks["eager.fail"]
    with pytest.raises(LookupError, match="as told"):
        pgreact.enqueue(Mock(spec=psycopg.Connection), fail)
    app.conf.task_eager_propagates = False
    assert pgreact.enqueue(Mock(spec=psycopg.Connection), fail) == 0


async def test_on_an_asynchronous_connection_it_is_awaited(app: Celery) -> None:
    connection = Mock(spec=psycopg.AsyncConnection)
    assert await pgreact.enqueue(connection, app.tasks["eager.add"], [1]) == 0
    assert await pgreact.enqueue_many(connection, [Job(app.tasks["eager.add"], [n]) for n in (2, 3)]) == [
        0,
        0,
    ]
    assert ran == [(1, 0), (2, 0), (3, 0)]


def test_what_is_named_alone_is_enqueued_beside_it(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pgreact.queue.enqueue.run",
        lambda _connection, call: call.read([(7, "a")] if "named" in call.parameters["jobs"] else []),
    )
    add = app.tasks["eager.add"]
    assert pgreact.enqueue(object(), "eager.named") == 7
    assert pgreact.enqueue_many(object(), [Job(add, [1]), "eager.named", Job(add, [2])]) == [0, 7, 0]
    assert ran == [(1, 0), (2, 0)]


def test_it_is_refused_where_the_application_says_so(app: Celery) -> None:
    app.conf.pgreact_eager = False
    with pytest.raises(ValueError, match="pgreact_eager = False forbids it"):
        pgreact.enqueue(Mock(spec=psycopg.Connection), app.tasks["eager.add"], [1])
    with pytest.raises(ValueError, match=r"jobs\[0\]: task_always_eager is set"):
        pgreact.enqueue_many(Mock(spec=psycopg.Connection), [Job(app.tasks["eager.add"], [1])])
    assert ran == []


def test_arguments_are_checked_as_ever(app: Celery) -> None:
    with pytest.raises(TypeError, match="the arguments do not fit task"):
        pgreact.enqueue(Mock(spec=psycopg.Connection), app.tasks["eager.add"])
