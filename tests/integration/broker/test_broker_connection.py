"""The connection to the broker: what is left of it once it is closed."""

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
from celery import Celery

from pgreact.broker.connection import BrokerConnection, PublisherThread
from pgreact.broker.job_publisher import JobMessage, JobPublisher
from pgreact.broker.publisher import CeleryPublisher
from tests import servers
from tests.harness import Inbox, eventually


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[servers.Server]:
    """A real RabbitMQ."""
    servers.require_or_skip("rabbitmq")
    with servers.rabbitmq_server() as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker."""
    url: str = (
        request.getfixturevalue("redis_url")
        if request.param == "redis"
        else request.getfixturevalue("rabbitmq").url
    )
    return url


def application(url: str) -> Celery:
    return Celery("connecting", broker=url, set_as_current=False)


def sockets(url: str) -> int:
    """Return the number of this process's connections to a broker."""
    port = urlsplit(url).port
    return sum(
        bool(connection.raddr) and connection.raddr.port == port
        for connection in psutil.Process().net_connections("tcp")
    )


@pytest.mark.parametrize("orderly", [False, True])
def test_a_closed_connection_leaves_no_socket_and_the_next_use_opens_another(
    broker: str, orderly: bool
) -> None:
    before = sockets(broker)
    connection = BrokerConnection(application(broker), 20)
    for _ in range(3):
        assert connection.producer.channel is not None
        assert sockets(broker) > before
        connection.close(orderly=orderly)
        assert sockets(broker) == before


def test_a_thread_that_ends_takes_leave_of_rabbitmq(rabbitmq: servers.Server) -> None:
    before = sockets(rabbitmq.url)

    async def use() -> str:
        thread = PublisherThread(application(rabbitmq.url), 20)

        def address(connection: BrokerConnection) -> str:
            channel = connection.producer.channel
            assert channel is not None
            host, port = channel.connection.transport.sock.getsockname()  # type: ignore[attr-defined]
            return f"{host}:{port}"

        found = await thread.call(address)
        thread.close()
        return found

    client = asyncio.run(use())
    eventually(lambda: sockets(rabbitmq.url) == before, "its socket is closed")

    def ended() -> list[str]:
        return [line for line in rabbitmq.log.read_text().splitlines() if client in line and "clos" in line]

    eventually(ended, "RabbitMQ has logged the end")
    assert not [line for line in ended() if "[warning]" in line], "RabbitMQ warns of clients that only vanish"


async def test_calls_made_ahead_are_sent_once_each_and_their_queue_is_declared_on_a_new_connection(
    broker: str,
) -> None:
    queue = f"q_{uuid4().hex[:12]}"
    publisher = CeleryPublisher(application(broker))
    call = publisher.call("proj.dispatch", {"queue": queue, "expires": 60, "args": ["x"]}, "dispatch")
    messages: list[Mapping[str, object]] = []
    for task_id, following, lost in (
        ("1", "2", False),
        ("2", "3", True),
        ("3", "4", False),
        ("4", "5", False),
    ):
        await call.publish(task_id, following)
        await asyncio.to_thread(eventually, lambda: call._prepared, "the next one is made")
        assert call._prepared is not None
        assert call._prepared._composed is not None
        if lost:
            thread = publisher._thread._thread
            assert thread is not None
            thread.connection.close()
        if lost or task_id == "4":
            inbox = Inbox(broker, queue)
            messages += inbox.rest()
            inbox.close()  # deletes the queue
    await publisher.close()
    assert [message["id"] for message in messages] == ["1", "2", "3", "4"]
    assert {message["argsrepr"] for message in messages} == {"['x']"}
    moments = [str(message["expires"]) for message in messages]
    assert moments == sorted(set(moments))


async def test_jobs_of_one_kind_are_sent_once_each_and_their_queue_is_declared_on_a_new_connection(
    broker: str,
) -> None:
    queue = f"q_{uuid4().hex[:12]}"
    publisher = JobPublisher(application(broker), 20)
    messages: list[Mapping[str, object]] = []
    for number in range(1, 10):
        job = JobMessage(
            job=number,
            attempt=1,
            task_id=f"job {number}",
            task="proj.job",
            args=f'[{number}, "\u00e9"]',
            kwargs="{}",
            options=f'{{"queue": "{queue}"}}',
            claims=(str(uuid4()),),
        )
        assert (await publisher.post([job])).sent == [job]
        if number in {6, 9}:
            thread = publisher._thread._thread
            assert thread is not None
            thread.connection.close()
            inbox = Inbox(broker, queue)
            messages += inbox.rest()
            inbox.close()  # deletes the queue
    await publisher.close()
    assert [(one["id"], one["pgreact_job"], one["argsrepr"]) for one in messages] == [
        (f"job {number}", number, f"[{number}, 'é']") for number in range(1, 10)
    ]
