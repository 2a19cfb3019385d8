"""The way of an attempt, as a bar of its parts."""

import datetime
from typing import Any

import pytest

from pgreact.web.job_way import way

BEGIN = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
TIMES = ("enqueued_at", "ready_at", "committed_at", "claimed_at", "published_at", "started_at", "settled_at")


def attempt(*seconds: float | None) -> dict[str, Any]:
    return {
        name: None if after is None else BEGIN + datetime.timedelta(seconds=after)
        for name, after in zip(TIMES, seconds, strict=True)
    }


def parts(*seconds: float | None, now: float = 99) -> list[tuple[str, float]]:
    return [
        (span.part, span.seconds) for span in way(attempt(*seconds), BEGIN + datetime.timedelta(seconds=now))
    ]


def test_each_part_ends_where_the_next_begins() -> None:
    assert parts(0, 1, 3, 6, 10, 15, 21) == [
        ("held", 1.0),
        ("transaction", 2.0),
        ("claim", 3.0),
        ("publish", 4.0),
        ("broker", 5.0),
        ("run", 6.0),
    ]


def test_without_the_time_of_the_commit_its_part_is_in_the_claim() -> None:
    assert parts(1, 1, None, 6, 10, 15, 21)[0] == ("claim", 5.0)


def test_attempt_that_runs_has_taken_until_now() -> None:
    assert parts(0, 0, 0, 1, 2, 3, None, now=13)[-1] == ("run", 10.0)
    assert parts(0, 0, 0, 1, None, None, None, now=13)[-1] == ("publish", 12.0)


def test_clock_that_was_set_back_makes_no_negative_part() -> None:
    assert [seconds for _, seconds in parts(0, 0, 0, 5, 4, 6, 7)] == [0.0, 5.0, 0.0, 2.0, 1.0]


def test_job_that_was_never_claimed_has_no_way() -> None:
    assert parts(0, None, None, None, None, None, 5) == []


def test_short_part_can_still_be_seen() -> None:
    spans = way(attempt(0, 0, 0, 0.001, 0.002, 0.003, 5000), BEGIN)
    assert all(span.width >= 3 for span in spans)
    assert spans[-1].x + spans[-1].width == pytest.approx(1000, abs=1)
