"""Live updates: one session listens for all pages of the process, and each open page hears of changes.

A change of the database notifies channel ``pgreact_live``. The hub waits 250 ms for more, then wakes the open
pages once; each is read again. The hub listens only while a page is open. Without notifications it wakes
pages at each ``refresh``, since ages grow, too.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import psycopg
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pgreact.postgres.application_name import application_name

CHANNEL = "pgreact_live"
DEBOUNCE = 0.25  # seconds
CLIENTS = 100  # open pages at most
STUCK = 10.0  # seconds that a client may take to read a line
_RETRY = (0.5, 5.0)  # seconds until the next attempt to connect: at first, at most


class Live:
    """The hub.

    Args:
        dsn: The database.
        refresh: Seconds between updates when no change is notified.
    """

    def __init__(self, dsn: str, refresh: float) -> None:
        self._dsn = dsn
        self._refresh = refresh
        self._clients: set[asyncio.Event] = set()
        self._listening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._version = 0

    @property
    def version(self) -> int:
        """A number that grows with each update: a page gives that of its reading, to learn of later ones."""
        return self._version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the events of one open page, until its client leaves or reads too slowly."""
        if len(self._clients) >= CLIENTS or self._closed:
            refusal = PlainTextResponse(f"{CLIENTS} pages are open: close one.\n", 503)
            await refusal(scope, receive, send)
            return
        with self._client() as changed:
            if Request(scope).query_params.get("version") != str(self._version):
                changed.set()
            stream = asyncio.create_task(self._stream(changed, send))
            left = asyncio.create_task(_disconnected(receive))
            done, pending = await asyncio.wait({stream, left}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()

    def close(self) -> None:
        """End the streams, so that the server can stop."""
        self._closed = True
        self._wake()
        if self._listening:
            self._listening.cancel()

    @contextlib.contextmanager
    def _client(self) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._clients.add(changed)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield changed
        finally:
            self._clients.discard(changed)
            if not self._clients and self._listening:
                self._listening.cancel()
                self._listening = None  # a page that opens meanwhile starts another

    async def _stream(self, changed: asyncio.Event, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        line = b": open\n\n"
        while not self._closed:
            try:
                async with asyncio.timeout(STUCK):
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            except TimeoutError:
                return  # without an end: the server closes the connection
            with contextlib.suppress(TimeoutError):
                # wait_for would lose a cancellation that meets a change (Python 3.11)
                async with asyncio.timeout(self._refresh):
                    await changed.wait()
            changed.clear()
            line = b"data: changed\n\n"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _listen(self) -> None:
        """Wake the pages at each notification, and when the database comes back."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, connect_timeout=5, application_name=application_name("web")
                ) as connection:
                    await connection.execute(f"listen {CHANNEL}".encode())
                    failures = 0
                    self._wake()  # changes before were not notified
                    async for _notification in connection.notifies():
                        self._wake_soon()
            except psycopg.Error:
                self._wake()  # the pages find out themselves what is wrong
            failures += 1
            pause = min(_RETRY[0] * 2**failures, _RETRY[1])
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    def _wake_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DEBOUNCE, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._version += 1
        for changed in self._clients:
            changed.set()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
