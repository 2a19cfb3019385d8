"""The HTTP server of the daemon: what each kind of client gets, and that the event loop goes on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import pytest

from pgreact.address import Address
from pgreact.clock import Clock
from pgreact.daemon import http_server
from pgreact.daemon.http_server import HttpServer, Request, Response
from pgreact.errors import PgreactError
from pgreact.postgres.trouble import Troubles
from tests.harness import eventually

LARGE = 8_000_000


class Site:
    """A server with some paths, and a client."""

    def __init__(self) -> None:
        self.troubles = Troubles(Clock())
        self.held = asyncio.Event()
        self.asked = asyncio.Event()
        paths = {"/hello": self._hello, "/broken": self._broken, "/large": self._large, "/held": self._held}
        self.server = HttpServer(paths, self.troubles["http"])
        self.address = Address("127.0.0.1", 0)

    async def _hello(self, request: Request) -> Response:
        return Response(HTTPStatus.OK, f"hello {request.headers.get('accept', '')}\n".encode())

    async def _broken(self, _request: Request) -> Response:
        raise ZeroDivisionError("of the handler")

    async def _large(self, _request: Request) -> Response:
        return Response(HTTPStatus.OK, b"x" * LARGE)

    async def _held(self, _request: Request) -> Response:
        self.asked.set()
        await self.held.wait()
        return Response(HTTPStatus.OK, b"at last\n")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.address.host, self.address.port)

    async def send(self, text: bytes) -> bytes:
        """Send bytes; return all that comes back before the server closes."""
        reader, writer = await self.connect()
        try:
            writer.write(text)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.address = await made.server.open(made.address)
    yield made
    await made.server.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


async def test_get_and_head_have_the_same_headers(site: Site) -> None:
    got = await site.send(b"GET /hello?query=1 HTTP/1.1\r\nHost: x\r\naccept: text/plain\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert (status(got), body) == (200, b"hello text/plain\n")
    assert b"\r\nContent-Length: 17\r\n" in head
    asked = await site.send(b"HEAD /hello HTTP/1.1\r\nHost: x\r\naccept: text/plain\r\n\r\n")
    assert asked == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 1\r\n\r\n1", 405),
        (b"GET hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),  # TLS
        (b"GET /hello HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nA: \0\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /hello HTTP/1.1\r\nA:" + b" " * 8000 + b"\1\r\n\r\n", 400),  # costs no time to refuse
        (b"x" * 30_000, 431),
    ],
)
async def test_a_wrong_request_is_refused(site: Site, request_: bytes, expected: int) -> None:
    answer = await site.send(request_)
    assert status(answer) == expected
    assert (b"Allow: GET, HEAD" in answer) == (expected == 405)


async def test_an_error_of_a_handler_is_reported_and_stops_nothing(site: Site) -> None:
    answer = await site.send(b"GET /broken HTTP/1.1\r\n\r\n")
    assert status(answer) == 500
    assert b"of the handler" not in answer
    assert [report.subject for report in site.troubles.reports()] == ["http"]
    assert status(await site.send(b"GET /hello HTTP/1.1\r\n\r\n")) == 200
    assert not site.troubles.reports()


async def test_a_request_that_does_not_come_is_answered_and_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "DEADLINE", 0.1)
    assert status(await site.send(b"GET /hello HTTP/1.1\r\n")) == 408
    assert not site.server._connections


async def test_a_client_that_reads_nothing_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "DEADLINE", 0.2)
    reader, writer = await site.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    await until(lambda: site.server._connections, "the request has come")
    await until(lambda: not site.server._connections, "the connection is gone")
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    received = 0
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1 << 20):
            received += len(part)
    assert received < LARGE
    writer.close()


async def test_idle_clients_give_way_to_others(site: Site) -> None:
    idle = [await site.connect() for _ in range(3 * http_server.CONNECTIONS)]
    assert status(await site.send(b"GET /hello HTTP/1.1\r\n\r\n")) == 200
    assert len(site.server._connections) < http_server.CONNECTIONS
    for _, writer in idle:
        writer.close()


async def test_more_requests_than_places_are_refused_while_all_are_busy(site: Site) -> None:
    held = []
    for _ in range(http_server.CONNECTIONS):
        site.asked.clear()
        held.append(asyncio.create_task(site.send(b"GET /held HTTP/1.1\r\n\r\n")))
        await site.asked.wait()
    assert status(await site.send(b"GET /hello HTTP/1.1\r\n\r\n")) == 503
    site.held.set()
    assert [status(answer) for answer in await asyncio.gather(*held)] == [200] * http_server.CONNECTIONS


async def test_many_clients_do_not_hold_up_the_event_loop(site: Site) -> None:
    turns: list[tuple[float, float]] = []  # seconds, and those of them that this thread had a processor
    done = asyncio.Event()

    async def tick() -> None:
        last = time.monotonic(), time.thread_time()
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.monotonic(), time.thread_time()
            turns.append((now[0] - last[0], now[1] - last[1]))
            last = now

    ticking = asyncio.create_task(tick())
    places = asyncio.Semaphore(http_server.CONNECTIONS - 1)

    async def ask() -> int:
        async with places:
            return status(await site.send(b"GET /hello HTTP/1.1\r\n\r\n"))

    assert set(await asyncio.gather(*(ask() for _ in range(300)))) == {200}
    done.set()
    await ticking
    # Alone each is about a millisecond. Other processes may hold up turns, but not use this thread's time.
    assert max(used for _, used in turns) < 0.25
    assert sorted(passed for passed, _ in turns)[-20] < 0.1, "what blocks does so for most requests"


async def test_a_taken_port_is_an_error_that_names_it(site: Site) -> None:
    other = HttpServer({}, site.troubles["http"])
    with pytest.raises(PgreactError, match=rf"http: cannot listen on {site.address}: .*in use.*--http"):
        await other.open(site.address)
    await other.close()


async def test_close_ends_open_connections(site: Site) -> None:
    reader, writer = await site.connect()
    await until(lambda: site.server._connections, "it is connected")
    await site.server.close()
    assert await reader.read() == b""
    writer.close()


async def until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(eventually, condition, what)
