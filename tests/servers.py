"""Real servers for tests: on free ports of 127.0.0.1, each in a temporary directory that is removed."""

import base64
import contextlib
import hashlib
import hmac
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil
import psycopg
import psycopg.conninfo
import pytest
from redis import Redis

from pgreact.demo.guard import Guard
from pgreact.demo.postgres import EmbeddedPostgres, find_binaries, free_port
from pgreact.errors import PgreactError
from tests.harness import by_way_of, eventually

DEADLINE = 60.0
# Read at import: fixtures hide the machine's settings from the tests.
MAJOR = int(os.environ.get("PGREACT_PG_MAJOR") or 18)
_CACHE = Path(__file__).parents[1] / ".cache"
_MEMORY = Path("/dev/shm")  # noqa: S108  a file system in memory
_ROOM = 4 << 30  # bytes: a server's WAL and databases take some hundred MB, and several servers run at once
_SBIN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class Missing(Exception):
    """A server or tool that is not installed here."""


# ---- programs of this machine ------------------------------------------------------------------------------


def program(name: str) -> str:
    """Return the path of a program, from PATH or the sbin directories.

    Raises:
        Missing: The program is not installed.
    """
    if path := shutil.which(name, path=_SBIN):
        return path
    raise Missing(name)


def postgres_binaries(major: int | None = None) -> Path:
    """Return the directory of PostgreSQL's binaries of one major version.

    Args:
        major: By default `$PGREACT_PG_MAJOR`, or else 18.

    Raises:
        Missing: There are none.
    """
    major = major or MAJOR
    fetched = _CACHE / f"pg{major}" / "bin"
    if fetched.exists():
        return fetched
    try:
        return find_binaries(major)
    except PgreactError as error:
        raise Missing(f"PostgreSQL {major}") from error


def _namespaces() -> None:
    """Check that a network namespace can be made, which needs `ip` and the right to use it."""
    name = f"pgreact-{os.getpid()}"
    made = subprocess.run([program("ip"), "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        raise Missing(f"network namespaces ({made.stderr.strip()})")
    subprocess.run([program("ip"), "netns", "delete", name], check=True)


_NEEDS: Mapping[str, Callable[[], object]] = {
    "redis": lambda: program("redis-server"),
    "rabbitmq": lambda: (program("rabbitmq-server"), program("epmd")),
    "pgbouncer": lambda: program("pgbouncer"),
    "netns": _namespaces,
    "browser": lambda: program("chromium"),
    "faketime": lambda: program("faketime"),
}


def require_or_skip(name: str) -> None:
    """Skip the test if this machine lacks a server; fail it if `$PGREACT_REQUIRE` names it, or "all".

    Args:
        name: "redis", "rabbitmq", "pgbouncer", "netns", "browser", "faketime", or "pg14" and the like.
    """
    try:
        if name.startswith("pg") and name[2:].isdigit():
            postgres_binaries(int(name[2:]))
        else:
            _NEEDS[name]()
    except Missing as missing:
        reason = f"not on this machine: {missing}"
        if {name, "all"} & set(os.environ.get("PGREACT_REQUIRE", "").split(",")):
            pytest.fail(f"PGREACT_REQUIRE names {name}, but {reason}", pytrace=False)
        pytest.skip(reason)


class Postgres(EmbeddedPostgres):
    """A private PostgreSQL, its data in memory where there is room, whose superuser logs in fast.

    Each test makes a database, and on a disk most of that time goes into the files. It also opens sessions by
    the dozen, and with a password hashed 4096 times most of that time goes into the hash.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            with psycopg.connect(self.dsn(), autocommit=True) as connection:
                verifier = _scram_verifier(self.password)
                connection.execute(f"alter role postgres password '{verifier}'".encode())
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if _has_room(_MEMORY):
                patch.setattr(tempfile, "tempdir", str(_MEMORY))
            super()._prepare()


def _scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password, hashed once."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    texts = (base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server))
    return "SCRAM-SHA-256$1:{}${}:{}".format(*texts)


def _has_room(place: Path) -> bool:
    """Return whether servers can have their data, and a copy of their programs, in a directory."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize >= _ROOM and not found.f_flag & os.ST_NOEXEC


# ---- running servers ---------------------------------------------------------------------------------------


class Server:
    """One server process with its children; a test may stop, kill, freeze and restart it.

    A restart keeps port and directory.
    """

    def __init__(
        self, url: str, port: int, directory: Path, guard: Guard, command: list[str], **popen: Any
    ) -> None:
        self.url = url
        self.port = port
        self.directory = directory
        self._guard = guard
        self._command = command
        self._popen = popen
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file with the server's output."""
        return self.directory / "log"

    def start(self) -> None:
        """Start the server and wait until its port answers."""
        assert self._process is None, "already started"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
                **self._popen,
            )
        self._guard.watch(-self._process.pid)
        self._wait_for_port(answers=True)

    def stop(self) -> None:
        """Send SIGTERM and wait for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Send SIGSTOP: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        assert self._process is not None, "not started"
        os.killpg(self._process.pid, signum)

    def _wait_for_port(self, *, answers: bool) -> None:
        deadline = time.monotonic() + DEADLINE
        while _answers(self.port) is not answers:
            ended = answers and self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                state = "ended" if ended else "does not answer" if answers else "still answers"
                words = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self._command[0]} {state} on port {self.port}:\n{words}")
            time.sleep(0.01)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        group = self._process.pid
        # What we started may be a wrapper: wait for those it started, too. A successor needs their port.
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(group).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signum)
            os.killpg(group, signal.SIGCONT)  # a frozen one would never see the first
        try:
            self._process.wait(DEADLINE)
        finally:
            # A server that does not listen, and helpers that outlive theirs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self._process.wait()
            psutil.wait_procs(family, timeout=5)
            self._guard.forget(-group)
            self._process = None
        self._wait_for_port(answers=False)


@contextlib.contextmanager
def _place() -> Iterator[tuple[Path, Guard]]:
    """A directory that every user can reach, and the guard that removes it."""
    directory = Path(tempfile.mkdtemp(prefix="pgreact-test-", dir="/tmp"))  # short, and open to every user
    directory.chmod(0o755)
    with Guard(directory) as guard:
        yield directory, guard


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    """Run Redis without persistence.

    Raises:
        Missing: The program is not installed.
    """
    redis = program("redis-server")
    port = free_port()
    password = secrets.token_urlsafe(24)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with _place() as (directory, guard):
        # a client of Redis can make it write files
        settings = private(directory / "redis.conf", f"requirepass {password}\n")
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        with _running(Server(url, port, directory, guard, [redis, str(settings), *options])) as server:
            yield server


@contextlib.contextmanager
def redis_sentinel(server: Server, name: str) -> Iterator[Server]:
    """Run a Sentinel that monitors a Redis under this name."""
    port = free_port()
    password = urlsplit(server.url).password
    with _place() as (directory, guard):
        settings = private(
            directory / "sentinel.conf",
            f"sentinel monitor {name} 127.0.0.1 {server.port} 1\nsentinel auth-pass {name} {password}\n"
            f"requirepass {password}\n",
        )
        command = [
            *(program("redis-server"), str(settings), "--sentinel"),
            *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)),
        ]
        with _running(
            Server(f"redis://:{password}@127.0.0.1:{port}", port, directory, guard, command)
        ) as found:
            yield found


@contextlib.contextmanager
def redis_cluster() -> Iterator[list[Server]]:
    """Run a cluster of two Redis, each with half of the slots.

    Raises:
        Missing: Redis is not installed.
    """
    with contextlib.ExitStack() as stack:
        password = secrets.token_urlsafe(24)
        text = f"requirepass {password}\nmasterauth {password}\ncluster-enabled yes\n"
        nodes = []
        buses = [free_port(), free_port()]
        for bus in buses:
            directory, guard = stack.enter_context(_place())
            port = free_port()
            command = [
                *(program("redis-server"), str(private(directory / "redis.conf", text))),
                *("--bind", "127.0.0.1", "--port", str(port), "--cluster-port", str(bus)),
                *("--dir", str(directory), "--save", "", "--appendonly", "no"),
            ]
            url = f"redis://:{password}@127.0.0.1:{port}"
            nodes.append(stack.enter_context(_running(Server(url, port, directory, guard, command))))
        clients = [stack.enter_context(Redis.from_url(node.url, decode_responses=True)) for node in nodes]
        for client, slots in zip(clients, ((0, 8191), (8192, 16383)), strict=True):
            client.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port, buses[1])
        eventually(
            lambda: all(each.cluster("INFO")["cluster_state"] == "ok" for each in clients),
            "the cluster is up",
        )
        yield nodes


@contextlib.contextmanager
def rabbitmq_server() -> Iterator[Server]:
    """Run RabbitMQ; durable queues survive a restart.

    Raises:
        Missing: The program is not installed.
    """
    # Debian's wrapper on the PATH changes the user; the script behind it does not.
    script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    rabbitmq = str(script) if script.exists() else program("rabbitmq-server")
    port, dist_port, names_port = free_port(), free_port(), free_port()
    with _place() as (directory, guard):
        (directory / "plugins").write_text("[].\n")
        password = secrets.token_urlsafe(24)
        private(
            directory / "rabbitmq.conf",
            f"log.console = true\nlog.file = false\ndefault_user = pgreact\ndefault_pass = {password}\n",
        )
        (directory / "env.conf").touch()
        environment = {
            "PATH": _SBIN,
            "HOME": str(directory),  # of the nodes' shared cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names_port),
            "RABBITMQ_NODENAME": "pgreact@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "logs"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "env.conf"),
        }
        # The first node would start Erlang's name server, which outlives it: start one here instead.
        names = Server("", names_port, directory, guard, [program("epmd")], env=environment)
        url = f"amqp://pgreact:{password}@127.0.0.1:{port}//"
        with (
            _running(names),
            _running(Server(url, port, directory, guard, [rabbitmq], env=environment)) as server,
        ):
            yield server


@contextlib.contextmanager
def pgbouncer(dsn: str, mode: str = "transaction", **settings: str) -> Iterator[Server]:
    """Run PgBouncer before a PostgreSQL; `url` is the DSN through it.

    Args:
        dsn: The PostgreSQL behind it; all databases can be reached, by the role of the DSN.
        mode: "session", "transaction" or "statement".
        settings: Further settings of `pgbouncer.ini`.

    Raises:
        Missing: The program is not installed.
    """
    bouncer = program("pgbouncer")
    target = psycopg.conninfo.conninfo_to_dict(dsn)
    port = free_port()
    # PgBouncer refuses to run as root.
    user: dict[str, Any] = {"user": pwd.getpwnam("nobody").pw_uid} if os.geteuid() == 0 else {}
    with _place() as (directory, guard):
        users = private(directory / "users", f'"{target["user"]}" "{target["password"]}"\n', **user)
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": mode,
            **settings,
        }
        ini = directory / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n* = host={target['host']} port={target['port']}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        ini.chmod(0o644)
        url = by_way_of(dsn, port)
        with _running(Server(url, port, directory, guard, [bouncer, str(ini)], **user)) as server:
            yield server


def private(file: Path, text: str, user: int | None = None) -> Path:
    """Write a file that only its owner can read, with these rights from its creation on; return it.

    Args:
        file: A path where no file exists.
        text: The content.
        user: The owner's id; by default the user of the tests.
    """
    file.touch(mode=0o600)
    file.write_text(text)
    if user is not None:
        os.chown(file, user, -1)
    return file


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
