"""A small HTTP server in the daemon's event loop, for probes and scrapes: one GET or HEAD a connection.

It must not disturb the dispatches, whatever its clients do:

=========================================== ================================================================
a client                                    gets
=========================================== ================================================================
sends no whole request within 5 s           408, or nothing
sends more than 8 KiB                       431
sends something else than HTTP              400
reads its answer slower than in 5 s         an aborted connection
is one of more than 20 at a time            its place from the oldest that has sent no request yet, or 503
=========================================== ================================================================
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from pgreact.address import Address
from pgreact.errors import PgreactError
from pgreact.postgres.trouble import Trouble

DEADLINE = 5.0  # seconds for a request to arrive, and for its answer to leave
SIZE = 8192  # bytes of a request
CONNECTIONS = 20

_REQUEST = re.compile(r"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[0-9]")
# without the blanks around a value: a pattern for them takes cubic time
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")


class Request(NamedTuple):
    """A request: its path without query, and its headers by lower-case name."""

    path: str
    headers: Mapping[str, str]


class Response(NamedTuple):
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves fixed paths."""

    def __init__(self, handlers: Mapping[str, Handler], trouble: Trouble) -> None:
        """Listen nowhere yet.

        Args:
            handlers: By path.
            trouble: Gets the errors of handlers.
        """
        self._handlers = handlers
        self._trouble = trouble
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._reading: dict[
            asyncio.StreamWriter, None
        ] = {}  # connections without a whole request, oldest first

    async def open(self, address: Address) -> Address:
        """Listen; return the address with the port, which the system chooses if it is 0.

        Raises:
            PgreactError: The port is taken, or the address is none of this machine.
        """
        try:
            self._server = await asyncio.start_server(
                self._accept, address.host, address.port, limit=SIZE, backlog=CONNECTIONS
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise PgreactError(
                f"http: cannot listen on {address}: {reason}; choose another address with --http, or none"
            ) from None
        port = self._server.sockets[0].getsockname()[1]
        return Address(address.host, port)

    async def close(self) -> None:
        """Stop listening, and abort all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS and self._reading:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            self._connections.pop(oldest).cancel()
        if len(self._connections) >= CONNECTIONS:
            writer.write(_format(Response(HTTPStatus.SERVICE_UNAVAILABLE, b"too many connections\n")))
            writer.close()
            return
        self._reading[writer] = None
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="http")
        self._connections[writer] = task
        task.add_done_callback(lambda _: self._forget(writer))

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        self._reading.pop(writer, None)
        self._connections.pop(writer, None)
        writer.transport.abort()  # of no effect once all is sent and closed

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.write(await self._answer(reader, writer))
            async with asyncio.timeout(DEADLINE):
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        try:
            async with asyncio.timeout(DEADLINE):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _format(Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"at most 8 KiB\n"))
        except TimeoutError:
            return _format(Response(HTTPStatus.REQUEST_TIMEOUT, b"no request came\n"))
        self._reading.pop(writer, None)
        lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        request_line = _REQUEST.fullmatch(lines[0])
        headers = [_HEADER.fullmatch(line) for line in lines[1:]]
        if request_line is None or None in headers:
            return _format(Response(HTTPStatus.BAD_REQUEST, b"not a request of HTTP/1.1\n"))
        method, target = request_line[1], request_line[2]
        request = Request(
            target.partition("?")[0],
            {header[1].lower(): header[2].strip(" \t") for header in headers if header},
        )
        handler = self._handlers.get(request.path)
        if handler is None:
            paths = ", ".join(self._handlers)
            return _format(Response(HTTPStatus.NOT_FOUND, f"the paths are {paths}\n".encode()), method)
        if method not in {"GET", "HEAD"}:
            return _format(Response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n"), method)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - it stops nothing else
            self._trouble.failed(error)
            response = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"the log has the error\n")
        else:
            self._trouble.recovered()
        return _format(response, method)


def _format(response: Response, method: str = "GET") -> bytes:
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if response.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if method == "HEAD" else head + response.body
