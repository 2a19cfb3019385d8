"""Assertions about the jobs of a transaction."""

import datetime
import uuid
from decimal import Decimal
from typing import Any
from unittest.mock import ANY

import pytest

import pgreact
from pgreact.errors import PgreactError
from pgreact.testing import assert_enqueued, assert_not_enqueued, enqueued
from tests import testing_app as tasks
from tests.harness import Database

HOUR = datetime.timedelta(hours=1)


def message(error: "pytest.ExceptionInfo[AssertionError]") -> list[str]:
    return str(error.value).splitlines()


def test_jobs_are_listed_with_their_arguments_as_the_task_gets_them(connection: Any) -> None:
    day, price, uid = datetime.date(2026, 1, 2), Decimal("1.50"), uuid.uuid4()
    job = pgreact.enqueue(
        connection, tasks.mail, [7], {"day": day, "price": price, "uid": uid},
        key="k", unique_key="u", priority=3, run_at=HOUR, options={"queue": "post"},
    )  # fmt: skip
    [found] = enqueued()
    assert (found.id, found.task_id, found.task, found.args) == (job, job.task_id, "testing.mail", [7])
    assert found.kwargs == {"day": day, "price": price, "uid": uid}
    assert (found.key, found.unique_key, found.priority, found.state) == ("k", "u", 3, "delayed")
    assert (found.lane, found.options, found.attempt) == ("post", {"queue": "post"}, 0)


def test_jobs_are_found_by_task_lane_and_key(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.mail, [1])
    pgreact.enqueue(connection, tasks.note, ["a"], key="k")
    assert [job.task for job in enqueued(tasks.mail)] == ["testing.mail"] == [enqueued(lane="mail")[0].task]
    assert [job.args for job in enqueued("testing.note")] == [["a"]] == [enqueued(key="k")[0].args]


def test_a_match_is_partial_and_any_equals_anything(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.mail, [1], {"to": "a", "parts": (1, 2)}, run_at=HOUR)
    [job] = assert_enqueued(tasks.mail)
    assert assert_enqueued(tasks.mail, args=[ANY], kwargs={"to": "a"}, lane="mail", run_at=HOUR) == [job]
    assert_enqueued(kwargs={"parts": (1, ANY)})
    assert_enqueued(run_at=job.run_at, state="delayed", count=None)
    assert_not_enqueued(tasks.note)
    assert_not_enqueued(tasks.mail, args=[2])


def test_a_failure_says_what_was_there_instead_and_what_differs_the_nearest_first(connection: Any) -> None:
    pgreact.enqueue(connection, tasks.note, ["x"])
    far = pgreact.enqueue(connection, tasks.mail, [2], {"to": "b"}, key="k")
    near = pgreact.enqueue(connection, tasks.mail, [1], {"to": "b"})
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(tasks.mail, args=[1], kwargs={"to": "a"}, key=None)
    assert message(caught)[:7] == [
        "0 such jobs, not 1: task='testing.mail', args=[1], kwargs={'to': 'a'}, key=None",
        f"  instead: job {near}, ready: testing.mail(1, to='b')",
        "      kwargs: {'to': 'b'}, not {'to': 'a'}",
        f"  instead: job {far}, ready: testing.mail(2, to='b')",
        "      args: [2], not [1]",
        "      kwargs: {'to': 'b'}, not {'to': 'a'}",
        "      key: 'k', not None",
    ]


def test_another_number_of_jobs_is_a_failure(connection: Any) -> None:
    with pytest.raises(AssertionError) as nothing:
        assert_enqueued(tasks.mail)
    assert message(nothing) == ["0 such jobs, not 1: task='testing.mail'", "  there is no other job"]
    for _ in range(2):
        pgreact.enqueue(connection, tasks.mail, [1])
    assert len(assert_enqueued(tasks.mail, count=2)) == 2
    with pytest.raises(AssertionError, match=r"2 such jobs, not 1: task='testing\.mail'"):
        assert_enqueued(tasks.mail)
    with pytest.raises(AssertionError, match="2 such jobs, not 0"):
        assert_not_enqueued(tasks.mail)


def test_an_attribute_that_no_job_has_is_named(connection: Any) -> None:
    with pytest.raises(TypeError, match=r'no "kwarg"; did you mean "kwargs"\?'):
        assert_enqueued(tasks.mail, kwarg={})


def test_without_a_connection_the_error_says_how_to_give_one() -> None:
    with pytest.raises(PgreactError, match="no connection: give connection="):
        enqueued()
    with pytest.raises(TypeError, match=r"connection is a builtins\.str"):
        enqueued(connection="postgresql:///shop")


def test_committed_jobs_are_seen_too(prepared: Database) -> None:
    with prepared.connect() as committed:
        job = pgreact.enqueue(committed, "testing.note", ["c"])
        try:
            assert_enqueued("testing.note", id=job, connection=committed)
        finally:
            pgreact.cancel(committed, job)
