"""The door to Celery for jobs: many messages at a time, and none that the broker does not have."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from pgreact.dispatch.jobs import GROUP, JobMessage, JobPublisher, Posted


class Office:
    """A publisher, and what Redis got of it."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url)
        self._publisher = JobPublisher(Celery("office", broker=url, set_as_current=False), deadline=20)
        self._queue = f"q_{uuid4().hex[:12]}"

    def post(self, count: int, **odd: Any) -> Posted:
        """Publish jobs 1 to ``count``; ``odd`` are options of the second one."""
        messages = [
            JobMessage(
                job,
                1,
                str(uuid4()),
                "t",
                "[]",
                "{}",
                json.dumps({"queue": self._queue} | (odd if job == 2 else {})),
            )
            for job in range(1, count + 1)
        ]
        return asyncio.run(self._publisher.post(messages))

    def got(self) -> list[int]:
        """Return the jobs whose messages are there, the first one sent first."""
        texts: Any = self.redis.lrange(self._queue, 0, -1)
        return [json.loads(text)["headers"]["pgreact_job"] for text in reversed(texts)]

    def heard(self) -> int:
        """Return how often Redis was spoken to."""
        told: Any = self.redis.info("stats")
        return int(told["total_reads_processed"])

    def close(self) -> None:
        """Hang up."""
        asyncio.run(self._publisher.close())
        self.redis.close()


@pytest.fixture
def office(redis_url: str) -> Iterator[Office]:
    """A publisher that has not connected yet."""
    found = Office(redis_url)
    yield found
    found.close()


def jobs(messages: list[JobMessage]) -> list[int]:
    return [message.job for message in messages]


def test_many_jobs_are_sent_in_order_and_by_few_words(office: Office) -> None:
    office.post(1)
    before = office.heard()
    many = 2 * GROUP + 3
    posted = office.post(many)
    assert office.heard() - before < many / 2
    assert jobs(posted.sent) == list(range(1, many + 1))
    assert office.got() == [1, *range(1, many + 1)]


def test_one_that_cannot_be_sent_is_refused_and_the_others_are_there(office: Office) -> None:
    posted = office.post(5, serializer="nope")
    assert [(message.job, "nope" in why) for message, why in posted.refused] == [(2, True)]
    assert jobs(posted.sent) == [1, 3, 4, 5]
    assert office.got() == [1, 3, 4, 5]
    assert posted.failure is None


def test_when_the_broker_is_away_no_job_is_taken_for_sent() -> None:
    nobody = Office("redis://127.0.0.1:1/0")
    posted = nobody.post(3)
    assert posted.sent == []
    assert posted.refused == []
    assert posted.failure
    nobody.close()
