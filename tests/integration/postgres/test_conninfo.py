"""The daemon's driver connects to the same server as libpq, with the same user and password."""

import asyncio
import contextlib
import os
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pgreact.demo.postgres import free_port
from pgreact.errors import ConfigError
from pgreact.postgres import conninfo


class Greeting(NamedTuple):
    """The start-up message of a client."""

    address: str
    user: str
    database: str
    options: str | None
    password: str


class Reception:
    """A server that asks each client for a password, and then refuses it."""

    def __init__(self, directory: Path) -> None:
        self.greetings: list[Greeting] = []
        self.port = free_port()
        self.directory = directory
        places: list[tuple[int, Any]] = [
            (socket.AF_INET, ("127.0.0.1", self.port)),
            (socket.AF_UNIX, str(directory / f".s.PGSQL.{self.port}")),
        ]
        if has_ipv6():
            places.append((socket.AF_INET6, ("::1", self.port)))
        self._servers = []
        for family, address in places:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.bind(address)
            server.listen()
            name = address if isinstance(address, str) else address[0]
            threading.Thread(target=self._receive, args=(server, name), daemon=True).start()
            self._servers.append(server)

    def close(self) -> None:
        """Accept no more clients."""
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()

    def _receive(self, server: socket.socket, address: str) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError, struct.error):
                client.settimeout(10)
                self._greet(client, address)

    def _greet(self, client: socket.socket, address: str) -> None:
        with client.makefile("rb") as heard:
            while True:
                (length,) = struct.unpack("!i", heard.read(4))
                body = heard.read(length - 4)
                (code,) = struct.unpack("!i", body[:4])
                if code == 196608:
                    break
                if code == 80877102:  # a cancellation
                    return
                client.sendall(b"N")  # no TLS, no GSSAPI
            words = body[4:].split(b"\0")
            sent = dict(zip(words[::2], words[1::2], strict=False))
            options = sent.get(b"options")
            user = sent[b"user"].decode()
            database = sent.get(b"database", sent[b"user"]).decode()
            greeting = Greeting(address, user, database, options.decode() if options else None, "")
            self.greetings.append(greeting)
            place = len(self.greetings) - 1
            client.sendall(b"R" + struct.pack("!ii", 8, 3))
            if heard.read(1) == b"p":
                (length,) = struct.unpack("!i", heard.read(4))
                self.greetings[place] = greeting._replace(password=heard.read(length - 4)[:-1].decode())
            fields = b"SFATAL\0VFATAL\0C28P01\0Mseen enough\0\0"
            client.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def reception() -> Iterator[Reception]:
    """One for the whole module; sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="pgr", dir="/tmp") as directory:
        server = Reception(Path(directory))
        yield server
        server.close()


# ---- what there is to read ---------------------------------------------------------------------------------

WORDS = ["u", "app", "a:b", "back\\slash", "Ü", "two words", "it's", "#no"]
SECRETS = ["s", "p:w", "back\\slash", "\\\\:", "blank ", " blank", "Ü", "#x", "*", "=", "a b", "tab\t"]
HOSTS = ["127.0.0.1", "localhost", "SOCKET", "::1", "nowhere.invalid"]
ADDRESSES = ["127.0.0.1", "::1"]
VARIABLES = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE",
    "password": "PGPASSWORD", "options": "PGOPTIONS",
}  # fmt: skip

places = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(HOSTS[:-1]) | st.just("localhost,127.0.0.1"),
        "hostaddr": st.sampled_from(ADDRESSES),
        "port": st.sampled_from(["PORT", ""]),
        "user": st.sampled_from([*WORDS, ""]),
        "dbname": st.sampled_from([*WORDS, ""]),
        "password": st.sampled_from([*SECRETS, ""]),
        "options": st.sampled_from(["-c work_mem=1MB", ""]),
    },
)
lines = st.tuples(
    st.sampled_from([*HOSTS, "*", "/SOCKET"]),
    st.sampled_from(["PORT", "*", "1"]),
    st.sampled_from([*WORDS, "*", "*"]),
    st.sampled_from([*WORDS, "*", "*"]),
    st.sampled_from(SECRETS),
)
odd_lines = st.sampled_from(["", "# a comment", "too:few", "   ", ":::::", "*:*:*:*:"])


class World(NamedTuple):
    """All sources of connection options."""

    dsn: dict[str, str]
    service: dict[str, str] | None
    named_in: str
    environment: dict[str, str]
    passwords: list[Any]
    uri: bool
    last_line_ends: bool


worlds = st.builds(
    World,
    dsn=places,
    service=st.none() | places,
    named_in=st.sampled_from(["dsn", "environment"]),
    environment=places,
    passwords=st.lists(lines | odd_lines, max_size=5),
    uri=st.booleans(),
    last_line_ends=st.booleans(),
)


def lay_out(world: World, reception: Reception, directory: Path) -> tuple[str, dict[str, str]]:
    """Write the files of a world; return its DSN and its environment."""

    def real(value: str) -> str:
        return value.replace("SOCKET", str(reception.directory)).replace("PORT", str(reception.port))

    # wherever it is to go, the port is the one that is open
    given_dsn = {"port": "PORT", **world.dsn} if not world.dsn.get("port") else world.dsn
    given_dsn = {key: real(value) for key, value in given_dsn.items()}
    if not {"host", "hostaddr"} & {*given_dsn, *(world.service or {}), *world.environment}:
        given_dsn["host"] = "127.0.0.1"
    environment = {
        VARIABLES[key]: real(value) for key, value in world.environment.items() if "\0" not in value
    }
    environment["PGPASSFILE"] = str(directory / "passwords")
    environment["PGSERVICEFILE"] = str(directory / "services")
    if world.service is not None:
        text = "".join(f"{key}={real(value)}\n" for key, value in world.service.items())
        (directory / "services").write_text(f"# services\n[other]\nuser=wrong\n[app]\n{text}\n[last]\n")
        if world.named_in == "dsn":
            given_dsn["service"] = "app"
        else:
            environment["PGSERVICE"] = "app"
    text = "\n".join(
        one
        if isinstance(one, str)
        else ":".join(real(part).replace("\\", "\\\\").replace(":", "\\:") for part in one)
        for one in world.passwords
    )
    (directory / "passwords").write_text(text + ("\n" if world.last_line_ends else ""))
    (directory / "passwords").chmod(0o600)
    if world.uri:
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in given_dsn.items())
        return f"postgresql://?{query}", environment
    return make_conninfo("", **given_dsn), environment


def by_libpq(dsn: str, reception: Reception) -> list[Greeting] | str:
    """Return libpq's first start-up message, or its error if it does not connect."""
    del reception.greetings[:]
    # not psycopg.connect, which takes several hosts of the environment for the DSN's
    attempt = pq.PGconn.connect_start(make_conninfo(dsn, connect_timeout=10).encode())
    while attempt.status != pq.ConnStatus.BAD and (way := attempt.connect_poll()) != pq.PollingStatus.FAILED:
        assert way in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}
        reading = way == pq.PollingStatus.READING
        select.select([attempt.socket] if reading else [], [] if reading else [attempt.socket], [], 10)
    said = attempt.error_message.decode()
    attempt.finish()
    return reception.greetings[:1] or said


def by_asyncpg(dsn: str, reception: Reception) -> list[Greeting] | str:
    """Return the first start-up message of the daemon's driver, or the error for the DSN."""
    del reception.greetings[:]
    try:
        arguments = conninfo.for_asyncpg(dsn)
        asyncio.run(asyncpg.connect(**{"timeout": 10.0, **arguments}))
    except (ConfigError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return reception.greetings[:1] or str(error)
    raise AssertionError("let in")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds)
def test_asyncpg_connects_as_libpq_does(reception: Reception, world: World) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, pytest.MonkeyPatch.context() as patch:
        dsn, environment = lay_out(world, reception, Path(directory))
        for key, value in environment.items():
            patch.setenv(key, value)
        before = dict(os.environ)
        ours = by_asyncpg(dsn, reception)
        assert dict(os.environ) == before
        theirs = by_libpq(dsn, reception)
        if isinstance(theirs, str):
            event("libpq goes nowhere")
            assert isinstance(ours, str)
            return
        if isinstance(ours, str) and "hosts whose passwords differ" in ours:
            event("refused")
            return
        event(f"by {theirs[0].address if len(theirs[0].address) < 10 else 'a socket'}")
        event("with a password" if theirs[0].password else "without a password")
        assert ours == theirs
