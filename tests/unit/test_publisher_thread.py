"""The publisher's thread: what it does between two calls."""

import asyncio
import threading

from celery import Celery

from pgreact.broker.connection import BrokerConnection, PublisherThread


def test_what_may_wait_is_done_once_when_no_call_is_left() -> None:
    done: list[str] = []
    both_wait, idle = threading.Event(), threading.Event()

    def first(_connection: BrokerConnection) -> None:
        assert both_wait.wait(20)
        done.append("one")

    def later(_connection: BrokerConnection) -> None:
        done.append("later")
        idle.set()

    async def calls() -> None:
        thread = PublisherThread(Celery("a", broker="memory://", set_as_current=False), 20)
        async with asyncio.TaskGroup() as group:
            group.create_task(thread.call(first, later))
            group.create_task(thread.call(lambda _connection: done.append("two"), later))
            asyncio.get_running_loop().call_soon(both_wait.set)
        assert await asyncio.to_thread(idle.wait, 20)
        await thread.call(lambda _connection: done.append("three"))
        thread.close()

    asyncio.run(calls())
    assert done == ["one", "two", "later", "three"]
