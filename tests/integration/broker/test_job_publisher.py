"""The publisher of jobs: many messages at a time, each reported as the broker took or refused it."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task
from redis import Redis

from pgreact.broker.job_publisher import GROUP, JobMessage, JobPublisher, PublishResult
from tests import servers


class Office:
    """A publisher, and what Redis got of it."""

    def __init__(self, url: str, deadline: float = 20) -> None:
        self.redis = Redis.from_url(url)
        self.app = Celery("office", broker=url, set_as_current=False)
        self._publisher = JobPublisher(self.app, deadline=deadline)
        self.queue = f"q_{uuid4().hex[:12]}"

    def post(self, count: int, args: str = "[]", **odd: Any) -> PublishResult:
        """Publish jobs 1 to ``count``; ``odd`` are options of the second one."""
        messages = [
            JobMessage(
                job,
                1,
                str(uuid4()),
                "t",
                args,
                "{}",
                json.dumps({"queue": self.queue} | (odd if job == 2 else {})),
            )
            for job in range(1, count + 1)
        ]
        return asyncio.run(self._publisher.post(messages))

    def got(self) -> list[int]:
        """Return the jobs whose messages are there, the first one sent first."""
        return self.headers("pgreact_job")

    def headers(self, name: str) -> list[Any]:
        """Return a header of the messages that are there, the first one sent first."""
        texts: Any = self.redis.lrange(self.queue, 0, -1)
        return [json.loads(text)["headers"][name] for text in reversed(texts)]

    def reads(self) -> int:
        """Return how often Redis was spoken to."""
        stats: Any = self.redis.info("stats")
        return int(stats["total_reads_processed"])

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
    before = office.reads()
    many = 2 * GROUP + 3
    posted = office.post(many)
    assert office.reads() - before < many / 2
    assert jobs(posted.sent) == list(range(1, many + 1))
    assert office.got() == [1, *range(1, many + 1)]


def test_one_that_cannot_be_sent_is_refused_and_the_others_are_there(office: Office) -> None:
    posted = office.post(5, serializer="nope")
    assert [(message.job, "nope" in why) for message, why in posted.refused] == [(2, True)]
    assert jobs(posted.sent) == [1, 3, 4, 5]
    assert office.got() == [1, 3, 4, 5]
    assert posted.failure is None


@pytest.mark.parametrize("protocol", [1, 2])
def test_messages_name_a_task_that_only_a_worker_with_setup_knows(office: Office, protocol: int) -> None:
    office.app.conf.task_protocol = protocol
    routed = f"r_{uuid4().hex[:12]}"
    office.app.conf.task_routes = {"t": {"queue": routed}}
    asyncio.run(
        office._publisher.post([JobMessage(1, 1, "i", "t", "[]", "{}", "{}", claims=("c",), database="d/1")])
    )
    message = json.loads(office.redis.lrange(routed, 0, -1)[0])  # type: ignore[index,arg-type]
    headers = message["headers"]
    data = headers if protocol == 2 else json.loads(base64.b64decode(message["body"]))
    assert (data["task"], data["id"]) == ("pgreact.job", "i")
    assert {name: headers[f"pgreact_{name}"] for name in ("job", "task", "claim", "attempt", "database")} == {
        "job": 1,
        "task": "t",
        "claim": "c",
        "attempt": 1,
        "database": "d/1",
    }
    if protocol == 2:
        assert headers["shadow"] == "t"


@pytest.mark.parametrize(
    ("shut", "open_"),
    [
        ({"maxmemory": "1", "maxmemory-policy": "noeviction"}, {"maxmemory": "0"}),
        ({"min-replicas-to-write": "1"}, {"min-replicas-to-write": "0"}),
    ],
    ids=["full", "no replica"],
)
def test_broker_that_refuses_all_is_away_and_no_job_is_to_blame(shut: Any, open_: Any) -> None:
    with servers.redis_server() as server:
        office = Office(server.url)
        office.post(1)
        for name, value in shut.items():
            office.redis.config_set(name, value)
        posted = office.post(3)
        assert (posted.sent, posted.refused) == ([], [])
        assert posted.failure
        for name, value in open_.items():
            office.redis.config_set(name, value)
        posted = office.post(3)
        assert (jobs(posted.sent), posted.refused, posted.failure) == ([1, 2, 3], [], None)
        office.close()


def test_job_that_the_broker_refuses_while_it_takes_others_is_refused(office: Office) -> None:
    # a user of Redis with rights on some keys alone
    office.redis.acl_setuser("narrow", enabled=True, nopass=True, keys=["q_*", "_kombu*"], commands=["+@all"])
    url = office.redis.connection_pool.connection_kwargs
    narrow = Office(f"redis://narrow:x@{url['host']}:{url['port']}/0")
    posted = narrow.post(3, queue="forbidden")
    assert jobs([message for message, _ in posted.refused]) == [2]
    assert (jobs(posted.sent), posted.failure) == ([1, 3], None)
    posted = narrow.post(2, queue="forbidden")
    assert jobs(posted.sent) == [1]
    assert "forbidden" in (posted.failure or "") or "permission" in (posted.failure or "").lower()
    narrow.close()


def test_options_that_celery_does_not_know_are_properties_of_the_message(office: Office) -> None:
    office.post(2, MessageGroupId="orders")
    texts: Any = office.redis.lrange(office.queue, 0, -1)
    assert json.loads(texts[0])["properties"]["MessageGroupId"] == "orders"


@pytest.mark.parametrize("wrong", [{"time_limit": "abc"}, {"headers": {"retries": "many"}}], ids=repr)
def test_job_whose_message_would_end_a_worker_is_refused_alone(office: Office, wrong: dict[str, Any]) -> None:
    posted = office.post(3, **wrong)
    assert jobs([message for message, _ in posted.refused]) == [2]
    assert office.got() == [1, 3]


def test_job_is_published_by_its_tasks_own_apply_async(office: Office) -> None:
    class Tenants(Task):  # type: ignore[type-arg]
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            if options["headers"]["pgreact_job"] == 2:
                raise LookupError("no tenant")
            return super().apply_async(args, kwargs, **{**options, "headers": {"tenant": "blue"}})

    @office.app.task(base=Tenants, name="t", shared=False)
    def task() -> None: ...

    posted = office.post(3)
    assert [(message.job, why) for message, why in posted.refused] == [(2, "LookupError: no tenant")]
    assert office.got() == [1, 3]
    assert office.headers("tenant") == ["blue", "blue"]


def test_big_jobs_are_sent_a_few_at_a_time_and_some_though_time_is_up(redis_url: str) -> None:
    slow = Office(redis_url, deadline=3)
    posted = slow.post(200, args=json.dumps([[{"a": {}}] * 20_000]))
    assert posted.failure
    assert posted.late
    assert 0 < len(posted.sent) < 200
    assert slow.got() == jobs(posted.sent)
    slow.close()


def test_when_the_broker_is_away_no_job_is_taken_for_sent() -> None:
    absent = Office("redis://127.0.0.1:1/0")
    posted = absent.post(3)
    assert posted.sent == []
    assert posted.refused == []
    assert posted.failure
    absent.close()
