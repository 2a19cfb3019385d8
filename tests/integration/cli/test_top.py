"""``pgreact top`` in a pseudo-terminal: live without polling, on any size, over a lost connection."""

import contextlib
import fcntl
import itertools
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgreact.cli.top import BETWEEN
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.histogram import quantile
from tests.command import pgreact
from tests.disruption.proxy import Proxy
from tests.harness import Daemon, Database, by_way_of, eventually
from tests.queue_steps import Queue, queue_database

SESSION = "from pg_stat_activity where datname = current_database() and application_name = 'pgreact cli'"
LEAVE_SCREEN = "\x1b[?1049l"


class Terminal:
    """``pgreact top`` in a pseudo-terminal, and the frames that it drew."""

    def __init__(self, dsn: str, width: int, height: int) -> None:
        self._main, side = pty.openpty()
        self.output = ""
        self.resize(width, height)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgreact", "top"],
            stdin=side,
            stdout=side,
            stderr=side,
            env={
                # pytest-xdist sets a size that is not the terminal's
                **{name: value for name, value in os.environ.items() if name not in {"LINES", "COLUMNS"}},
                "PGREACT_DSN": dsn,
                "TERM": "xterm-256color",
            },
            start_new_session=True,
        )
        os.close(side)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(self._main, 65536):
                self.output += chunk.decode(errors="replace")

    @property
    def frame(self) -> list[str]:
        """The lines of the last frame that fills the terminal, without escape sequences."""
        for frame in reversed(self.output.split("\x1b[H")):
            if frame.count("\n") >= self._height - 1:
                text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).rstrip()
                return [line.rstrip() for line in text.splitlines()]
        return []

    def until(self, text: str) -> list[str]:
        """Wait for a frame with a line that matches; return the frame."""
        found: list[list[str]] = []

        def drawn() -> bool:
            found[:] = [self.frame]
            return any(re.search(text, line) for line in found[0])

        try:
            eventually(drawn, text)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in\n" + "\n".join(self.frame)) from None
        return found[0]

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def resize(self, width: int, height: int) -> None:
        self._height = height
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def exit(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(20)
        self._reader.join(20)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._main)


@pytest.fixture
def terminals() -> Iterator[Callable[..., Terminal]]:
    """Start ``pgreact top``: ``terminals(dsn, width, height)``."""
    started: list[Terminal] = []

    def start(dsn: str, width: int = 120, height: int = 40) -> Terminal:
        started.append(Terminal(dsn, width, height))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


@pytest.fixture(scope="module")
def queue(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Queue]:
    """A database with a queue, and no daemon."""
    with queue_database(postgres) as found:
        yield found


@pytest.fixture
def jobs(queue: Queue) -> Queue:
    """An empty queue."""
    queue.empty()
    return queue


def lane(frame: list[str], name: str) -> list[str]:
    """Return the cells of a lane's line."""
    [cells] = [line.split() for line in frame if line.split()[:1] == [name]]
    return cells


def test_top_shows_a_commit_at_once_and_sends_no_statement_while_nothing_happens(
    database: Database,
    installed: Callable[..., None],
    daemons: Callable[..., Daemon],
    redis_url: str,
    terminals: Callable[..., Terminal],
) -> None:
    installed(database, {"lanes": {"mail": {"max_in_progress": 1}}})
    daemons(database.dsn, redis_url).wait_for("leader.elected")
    terminal = terminals(database.dsn)
    terminal.until("leader .* pid")
    database.value("select count(pgreact.enqueue('t', lane => 'mail')) from generate_series(1, 3)")
    frame = terminal.until(r"mail +2 +0 +0 +1/1")
    assert lane(frame, "mail")[-1] == "FULL"
    assert any(line.startswith("(queue)") for line in frame)

    def sent() -> Any:
        return database.value(f"select query_start {SESSION}")

    eventually(lambda: sent_before(sent, terminal) == sent(), "two seconds without a statement")
    database.run("update pgreact.lane set paused = true where name = 'mail'")
    frame = terminal.until(r"lane\.paused +mail")
    assert lane(frame, "mail")[-1] == "PAUSED"


def sent_before(sent: Callable[[], Any], terminal: Terminal) -> Any:
    """Return when the last statement was sent, then wait until the ages moved twice."""
    before = sent()
    for _ in range(2):
        shown = terminal.frame
        eventually(
            lambda shown=shown: terminal.frame != shown and "q quits" in "".join(terminal.frame[:1]), "a tick"
        )
    return before


def test_notifications_lead_to_two_readings_a_second_at_most(
    jobs: Queue, terminals: Callable[..., Terminal]
) -> None:
    terminal = terminals(jobs.dsn)
    terminal.until("q quits")
    starts: list[Any] = []
    with jobs.connect() as connection:

        def read_again() -> bool:
            connection.execute("notify pgreact_live, 'flight'")
            # an idle session has a transaction, too, while the server takes notifications for it
            row = connection.execute(f"select xact_start {SESSION} and state <> 'idle'").fetchone()
            if row and row[0] and row[0] not in starts:
                starts.append(row[0])
            return len(starts) == 4

        eventually(read_again, "four readings")
    assert min(after - before for before, after in itertools.pairwise(starts)).total_seconds() >= BETWEEN
    jobs.add()
    jobs.run("notify pgreact_live, 'flight'")
    terminal.until(r"default +1 +0")


def test_q_leaves_and_gives_the_terminal_back(jobs: Queue, terminals: Callable[..., Terminal]) -> None:
    terminal = terminals(jobs.dsn)
    assert any("no daemon leads" in line for line in terminal.until("q quits"))
    terminal.type("q")
    assert terminal.exit() == 0
    assert terminal.output.rstrip().endswith(("\x1b[?25h", LEAVE_SCREEN))
    assert LEAVE_SCREEN in terminal.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_gives_the_terminal_back(
    jobs: Queue, terminals: Callable[..., Terminal], number: signal.Signals
) -> None:
    terminal = terminals(jobs.dsn)
    terminal.until("q quits")
    terminal.process.send_signal(number)
    assert terminal.exit() == 0
    assert LEAVE_SCREEN in terminal.output
    assert "Traceback" not in terminal.output


def test_narrow_terminal_has_fewer_columns_and_a_resize_brings_them_back(
    jobs: Queue, terminals: Callable[..., Terminal]
) -> None:
    jobs.run("insert into pgreact.lane (name) select 'lane-' || n from generate_series(10, 60) n")
    jobs.add(task="proj.tasks.a_task_with_a_name_that_is_long")
    terminal = terminals(jobs.dsn, 40, 24)
    frame = terminal.until("q quits")
    assert all(len(line) <= 40 for line in frame)
    assert len(frame) <= 24
    assert "… and" in "\n".join(frame)
    assert not any("blocked" in line for line in frame if line.startswith("lane "))
    terminal.resize(140, 90)
    frame = terminal.until("wait p50 .* run p95")
    assert lane(frame, "lane-60")


def test_lost_connection_is_told_and_opened_again(jobs: Queue, terminals: Callable[..., Terminal]) -> None:
    with Proxy(int(conninfo_to_dict(jobs.dsn)["port"])) as proxy:
        terminal = terminals(by_way_of(jobs.dsn, proxy.port))
        terminal.until("q quits")
        proxy.set("refuse")
        proxy.reset()
        frame = terminal.until("^LOST, connecting again")
        assert lane(frame, "default")
        jobs.add()
        proxy.set("pass")
        terminal.until("q quits")
        assert lane(terminal.until(r"default +1 +0"), "default")


def test_frame_without_a_terminal_is_plain_and_read_by_a_monitor(steps: Queue) -> None:
    role = f"watcher_{uuid4().hex[:12]}"
    steps.run(f"create role {role} {steps.login}", f"select pgreact.grant_role('{role}', 'monitor')")
    steps.add()
    doomed = steps.add(task="proj.doomed")
    assert len(steps.claimed()) == 2
    steps.run("update pgreact.lane set paused = true where name = 'default'")
    with steps.connect() as connection:
        connection.execute("select pgreact.log_event('schema.applied', E'evil\\x1b[2J', '{}', 'ann')")
    for job in (doomed, doomed - 1):
        steps.start(job)
        steps.settle(job, "failed", "boom: no such user\nsecond line")
    steps.value("select pgreact.roll_up()")
    shown = pgreact("top", "--once", dsn=re.sub(r"//[^:]+:", f"//{role}:", steps.dsn))
    assert (shown.code, shown.err) == (0, "")
    assert "\x1b" not in shown.out
    for text in (
        "leader   NONE",
        "UNHEALTHY  no daemon leads",
        "boom: no such user",
        "schema.applied",
        "PAUSED",
    ):
        assert text in shown.out
    assert "second line" not in shown.out
    cells = lane(shown.out.splitlines(), "default")
    assert cells[6] != "0.00"  # jobs a second
    assert "-" not in cells[7:11]  # wait and run


def test_top_without_rich_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    done = pgreact("top", dsn="host=nowhere")
    assert (done.code, done.err) == (1, 'pgreact: pgreact top needs rich: pip install "pgreact[top]"\n')


def test_top_that_cannot_connect_fails_as_other_commands_do(terminals: Callable[..., Terminal]) -> None:
    terminal = terminals("postgresql://127.0.0.1:1/x")
    assert terminal.exit() == 1
    assert LEAVE_SCREEN not in terminal.output
    assert "pgreact: host=127.0.0.1 port=1" in terminal.output


@pytest.mark.parametrize(
    ("counts", "share", "found"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([10, 10, 0], 0.75, 1.5),
        ([0, 10, 0], 1.0, 2.0),
        ([0, 0, 4], 0.95, 2.0),
    ],
)
def test_quantile_is_interpolated_within_its_bucket(
    counts: list[int], share: float, found: float | None
) -> None:
    assert quantile(counts, [1.0, 2.0], share) == found
