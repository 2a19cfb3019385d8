"""Live updates: one session for all pages, bounded clients, none that holds up the others."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from pgreact.web import live
from pgreact.web.live import Live
from tests.harness import DEADLINE, Database

LISTENS = (
    "select count(*) from pg_stat_activity "
    "where datname = current_database() and query = 'listen pgreact_live'"
)


class Client:
    """An open page: what it received, and whether it reads."""

    def __init__(self, hub: Live, version: int | None = None) -> None:
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.leaves = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "GET", "headers": [], "path": "/live"}
        scope["query_string"] = f"version={hub.version if version is None else version}".encode()
        self.task = asyncio.create_task(hub(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.received.put_nowait(message)

    async def next(self) -> Message:
        """Return the next message."""
        return await asyncio.wait_for(self.received.get(), DEADLINE)

    async def opened(self) -> "Client":
        """Wait for the head of the stream; return the client."""
        assert (await self.next())["status"] == 200
        assert (await self.next())["body"] == b": open\n\n"
        return self

    async def changed(self) -> None:
        """Wait for an event."""
        assert (await self.next())["body"] == b"data: changed\n\n"

    async def leave(self) -> None:
        """Close the page."""
        self.leaves.set()
        await asyncio.wait_for(self.task, DEADLINE)


async def until(database: Database, listens: int) -> None:
    """Wait until this many sessions listen."""
    await asyncio.to_thread(database.until, LISTENS.replace("count(*)", f"count(*) = {listens}"))


async def test_many_pages_share_one_session_that_ends_with_the_last(database: Database) -> None:
    hub = Live(database.dsn, refresh=60)
    first, second = await Client(hub).opened(), await Client(hub).opened()
    await first.changed()  # once the hub listens
    await second.changed()
    assert database.value(LISTENS) == 1
    await first.leave()
    database.run("notify pgreact_live")
    await second.changed()
    await second.leave()
    await until(database, 0)
    third = await Client(hub).opened()
    await third.changed()
    hub.close()
    assert (await third.next())["body"] == b""
    await asyncio.wait_for(third.task, DEADLINE)


async def test_page_that_leaves_at_a_change_is_forgotten(database: Database) -> None:
    hub = Live(database.dsn, refresh=60)
    client = await Client(hub).opened()
    await client.changed()
    client.leaves.set()
    hub._wake()
    await asyncio.wait_for(client.task, DEADLINE)
    await until(database, 0)


async def test_burst_of_notifications_is_one_event(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "DEBOUNCE", 0.7)
    hub = Live(database.dsn, refresh=60)
    client = await Client(hub).opened()
    await client.changed()
    version = hub.version

    def burst() -> None:
        with database.connect() as connection, database.connect() as other:
            other.execute(f"listen {live.CHANNEL}".encode())
            for _ in range(20):
                connection.execute(f"notify {live.CHANNEL}".encode())
                assert list(other.notifies(timeout=DEADLINE, stop_after=1)), "delivered one by one"

    await asyncio.to_thread(burst)
    await client.changed()
    await asyncio.to_thread(database.run, f"notify {live.CHANNEL}")
    await client.changed()
    assert hub.version == version + 2
    await client.leave()


async def test_page_that_missed_a_change_hears_of_it_at_once(database: Database) -> None:
    hub = Live(database.dsn, refresh=60)
    watching = await Client(hub).opened()
    await watching.changed()
    late = await Client(hub, version=hub.version - 1).opened()
    await late.changed()
    await late.leave()
    await watching.leave()


async def test_page_updates_at_each_refresh_while_the_database_is_away() -> None:
    hub = Live("host=127.0.0.1 port=1", refresh=0.01)
    client = await Client(hub).opened()
    for _ in range(3):
        await client.changed()
    await client.leave()


async def test_lost_session_is_replaced_and_the_pages_read_again(database: Database) -> None:
    hub = Live(database.dsn, refresh=60)
    client = await Client(hub).opened()
    await client.changed()
    database.run(LISTENS.replace("count(*)", "pg_terminate_backend(pid)"))
    await client.changed()  # the session is lost
    await client.changed()  # another one listens
    assert database.value(LISTENS) == 1
    await client.leave()


async def test_client_that_does_not_read_is_dropped_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STUCK", 0.05)
    hub = Live(database.dsn, refresh=60)
    slow, quick = await Client(hub).opened(), await Client(hub).opened()
    slow.reads.clear()
    await quick.changed()
    database.run("notify pgreact_live")
    await quick.changed()
    await asyncio.wait_for(slow.task, DEADLINE)
    assert slow.received.empty()
    await quick.leave()


async def test_clients_beyond_the_limit_are_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CLIENTS", 1)
    hub = Live(database.dsn, refresh=60)
    first = await Client(hub).opened()
    second = Client(hub)
    assert (await second.next())["status"] == 503
    await first.leave()
    third = await Client(hub).opened()
    await third.leave()
