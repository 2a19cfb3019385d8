"""Authentication: who sends a request, and with which role.

On a loopback address all requests are of one operator. Otherwise HTTP basic authentication with a file of
users, or a header of a trusted proxy. An application that mounts the pages may bring its own function.
"""

import base64
import binascii
import hashlib
import ipaddress
import secrets
import threading
from pathlib import Path
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pgreact.errors import ConfigError
from pgreact.web.passwords import NAME, NOBODY, read_accounts
from pgreact.web.user import User


class Authenticate(Protocol):
    """Finds the user of a request; ``None``: the request is refused. Runs in a thread."""

    def __call__(self, connection: HTTPConnection, /) -> User | None:
        """Return the user."""
        ...


class Authentication:
    """Middleware that refuses requests without a user, and puts the user into the scope."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate
        self._challenge = getattr(authenticate, "challenge", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        user = await run_in_threadpool(self._authenticate, HTTPConnection(scope))
        if user is None:
            status, headers = (401, {"WWW-Authenticate": self._challenge}) if self._challenge else (403, {})
            refusal = PlainTextResponse("Log in to see these pages.\n", status, headers)
            await refusal(scope, receive, send)
            return
        scope["pgreact.user"] = user
        await self._app(scope, receive, send)


def local_operator(_connection: HTTPConnection) -> User:
    """Return the one user of pages that only this machine can reach."""
    return User("local", "operator")


class BasicAuthentication:
    """HTTP basic authentication with a file of users, which is read once.

    Args:
        file: Its path.

    Raises:
        ConfigError: The file cannot be read, or a line is wrong.
    """

    challenge = 'Basic realm="pgreact", charset="UTF-8"'

    def __init__(self, file: Path) -> None:
        self._accounts = read_accounts(file)
        self._one_at_a_time = threading.Lock()  # a hash takes memory and time
        self._waiting = threading.BoundedSemaphore(8)  # others keep the threads of the pages
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}  # by user: a keyed digest of the password that was right

    def __call__(self, connection: HTTPConnection) -> User | None:
        """Return the user whose name and password the request has."""
        scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        digest = hashlib.blake2b(password.encode(), key=self._key).digest()
        account = self._accounts.get(name, NOBODY)
        if not secrets.compare_digest(self._known.get(name, b""), digest):
            if not self._waiting.acquire(blocking=False):
                return None
            try:
                with self._one_at_a_time:
                    accepted = account.accepts(password)
            finally:
                self._waiting.release()
            if not accepted:
                return None
            self._known[name] = digest
        return User(account.name, account.role)


class HeaderAuthentication:
    """Trust in a header with the user's name, which a proxy sets after it has authenticated the user.

    Args:
        name: The header with the user's name.
        role: The header with the role, if any: any other value than ``operator`` means ``monitor``. Without
            it, each user is an operator.
        proxies: Addresses or networks of the proxies; others are refused.
    """

    challenge = None

    def __init__(self, name: str, role: str | None, proxies: tuple[str, ...]) -> None:
        self._name, self._role = name, role
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def __call__(self, connection: HTTPConnection) -> User | None:
        """Return the user that the proxy names."""
        names = connection.headers.getlist(self._name)
        if not self._from_proxy(connection) or len(names) != 1 or not NAME.fullmatch(names[0]):
            return None
        roles = connection.headers.getlist(self._role) if self._role else ["operator"]
        return User(names[0], "operator" if roles == ["operator"] else "monitor")

    def _from_proxy(self, connection: HTTPConnection) -> bool:
        try:
            address = ipaddress.ip_address(connection.client.host if connection.client else "")
        except ValueError:
            return False
        return any(address in proxy for proxy in self._proxies)


def parse(auth: str, proxies: tuple[str, ...]) -> Authenticate:
    """Return the authentication that an option means.

    Args:
        auth: ``basic:FILE``, ``header:NAME`` or ``header:NAME:ROLE-NAME``.
        proxies: Addresses or networks of the proxies whose header counts.

    Raises:
        ConfigError: The option has another form, or the file of users is wrong.
    """
    kind, _, rest = auth.partition(":")
    if kind == "basic" and rest:
        return BasicAuthentication(Path(rest))
    if kind == "header" and rest:
        name, _, role = rest.partition(":")
        return HeaderAuthentication(name, role or None, proxies)
    raise ConfigError(f'auth "{auth}" is not known: write basic:FILE, header:NAME or header:NAME:ROLE-NAME')
