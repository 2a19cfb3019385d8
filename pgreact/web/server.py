"""The server of ``pgreact web``: where it listens, whom it lets in, and how it stops."""

import asyncio
import ipaddress
import re
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from uvicorn.protocols.http.h11_impl import H11Protocol

from pgreact import logs
from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres import conninfo
from pgreact.settings import Settings
from pgreact.web import auth
from pgreact.web.app import create_app

_SILENCE = 10  # seconds between two looks at a connection that sends no whole request


class _Protocol(H11Protocol):
    """Ends connections that send no whole request between two looks; uvicorn waits for them without end."""

    _seen: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_SILENCE, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle if waits else self
        self.loop.call_later(_SILENCE, self._look)


class _Server(uvicorn.Server):
    """A server that ends the streams of open pages when it stops; it would wait for them."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], None]) -> None:
        super().__init__(config)
        self._close = close

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._close()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    Raises:
        ConfigError: ``bind`` is no address, or it is open to other machines without authentication.
        PgreactError: The address is in use.
    """
    web = settings.web
    host, port = _address(web.bind)
    local = _is_loopback(host)
    if web.auth is None and not local:
        raise ConfigError(
            f'bind "{web.bind}" lets other machines act without a login: give --auth basic:FILE or --auth '
            "header:NAME, or bind 127.0.0.1"
        )
    authenticate = auth.local_operator if web.auth is None else auth.parse(web.auth, web.proxies)
    hosts = (
        {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host} if web.auth is None else ()
    )
    pages = create_app(settings, auth=authenticate, hosts=sorted(hosts))
    below = Starlette(routes=[Mount(web.prefix, pages)], lifespan=pages.router.lifespan_context)
    config = uvicorn.Config(
        below if web.prefix else pages,
        http=_Protocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the address of the proxy itself decides whether its header counts
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again after it has stopped: the exit status is 0 all the same
        signal.signal(number, lambda _number, _frame: None)
    with _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        logs.emit(
            logs.WebStarted(
                address=f"http://{shown}:{listener.getsockname()[1]}{web.prefix}/",
                auth=(web.auth or "none").partition(":")[0],
                database=conninfo.redacted(settings.dsn),
            )
        )
        _Server(config, pages.state.live.close).run([listener])


def _address(bind: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})", bind)
    if not found or int(found[3]) > 65535:
        raise ConfigError(
            f'bind "{bind}" is not an address: write HOST:PORT, like 127.0.0.1:8080 or [::1]:8080'
        )
    return found[1] or found[2], int(found[3])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=100)
    except OSError as error:
        raise PgreactError(f'bind "{host}:{port}": {error.strerror or error}') from None
