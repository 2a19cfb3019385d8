"""``pgreact demo`` as a process: its output, its exit status, and what it leaves behind."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.harness import eventually

DEADLINE = 90.0


class Demo:
    """The demo as a process, its output, and all processes that it started."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._output = directory / "output"
        self._descendants: set[psutil.Process] = set()
        with self._output.open("wb") as output:
            self.process = psutil.Popen(
                [sys.executable, "-m", "pgreact", "demo", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
            )

    @property
    def output(self) -> str:
        """The output so far."""
        return self._output.read_text(encoding="utf-8")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, and collect the descendants meanwhile."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.output
            try:
                self._descendants.update(self.process.children(recursive=True))
            except psutil.NoSuchProcess:
                return
            time.sleep(0.05)

    def exit(self) -> int:
        """Wait for the end; return the exit status."""
        self.until(lambda: self.process.poll() is not None)
        return int(self.process.returncode)

    def running(self) -> list[psutil.Process]:
        """Return the descendants that still run."""
        return [process for process in self._descendants if _runs(process)]

    def started(self, what: str) -> bool:
        """Return whether a running descendant has this text in its command."""
        return any(what in " ".join(process.cmdline()) for process in self.running())


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start demos; end them after the test."""
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_demo_does_all_jobs_survives_its_leader_and_leaves_no_process(
    demo: Callable[..., Demo],
) -> None:
    shown = demo("--seconds", "6")
    status = shown.exit()

    assert status == 0, shown.output
    assert "kill -9 daemon" in shown.output
    scene = shown.output.partition("The built-in queue")[2].partition("Measured")[0]
    assert "rolls back: nothing follows" in scene, shown.output
    for step in (
        "queue.dispatched",
        "settles job",
        "2 in progress at most",
        "is lost",
        "settles attempt",
    ):
        assert step in scene, shown.output
    measured = shown.output.partition("Measured")[2]
    for row in (
        "jobs done",
        "Celery calls",
        "takeover",
        "built-in queue",
        "commit → dispatch",
        "commit → job start",
        "Beat",
    ):
        assert row in measured, shown.output
    assert "2 of 2 places, never more; a killed job ran again" in measured
    assert "\x1b" not in shown.output, "colours without a terminal"
    assert not shown.running()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interrupted_demo_leaves_no_process(
    demo: Callable[..., Demo], number: signal.Signals, status: int
) -> None:
    shown = demo("--seconds", "60")
    shown.until(lambda: "Single jobs" in shown.output)
    assert shown.started("pgreact listen")
    assert shown.started("celery")
    assert shown.started("postgres")
    shown.process.send_signal(number)

    assert shown.exit() == status, shown.output
    if number == signal.SIGKILL:
        eventually(lambda: not shown.running(), "the guards end the descendants")
    assert not shown.running()


def test_demo_with_pages_serves_each_and_leaves_no_process(demo: Callable[..., Demo]) -> None:
    shown = demo("--web")
    shown.until(lambda: "End it with Ctrl-C" in shown.output or shown.process.poll() is not None)
    found = re.search(r"pages +(http://127\.0\.0\.1:\d+)/", shown.output)
    assert found, shown.output
    with httpx.Client(base_url=found[1], timeout=30, follow_redirects=True) as client:
        front = client.get("/")
        navigation = front.text.partition("<nav")[2].partition("</nav>")[0]
        pages = re.findall(r'href="([^"#]+)"', navigation)
        assert len(pages) >= 4, front.text
        assert {page: client.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
        shown.until(lambda: "resize_image" in client.get("/jobs").text)
        schedules = client.get("/schedules").text
    for state in ("planned", "disabled", "no lane"):
        assert state in schedules, state
    shown.process.send_signal(signal.SIGINT)
    assert shown.exit() == 0, shown.output
    assert "Traceback" not in shown.output
    assert not shown.running()


def test_time_of_a_demo_that_runs_until_it_is_ended_cannot_be_given(demo: Callable[..., Demo]) -> None:
    refused = demo("--web", "--seconds", "5")
    assert refused.exit() == 2
    assert "--seconds does not go with --web" in refused.output
