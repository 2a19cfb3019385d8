"""``pgreact schedule shadow`` beside Celery's own Beat."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgreact.timetable.shadow.call import Call
from pgreact.timetable.shadow.events import Events
from tests.command import pgreact
from tests.harness import Database, Inbox, eventually
from tests.servers import Server, redis_server, require_or_skip
from tests.worker import ROOT, Worker

Install = Callable[..., None]


class Process(Worker):
    """A process of ``tests.import_app``, whose lines are read."""

    def __init__(self, *command: str, cwd: Path, **environ: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ticks(self, count: int) -> None:
        """Wait until Beat has sent ``count`` messages."""
        eventually(lambda: sum("due task tick" in line for line in self.lines) >= count, f"{count} ticks")

    def interrupted(self) -> tuple[int, list[dict[str, Any]]]:
        """Press Ctrl-C; return how it exits, and the JSON it wrote."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        self._reader.join()
        return code, [json.loads(line) for line in self.lines if line.startswith("{")]


Start = Callable[..., Process]


@pytest.fixture
def ours(database: Database, installed: Install) -> Database:
    """A database with a schedule that Beat has, too, but for its arguments."""
    installed(database)
    database.run(
        "insert into pgreact.schedule (name, task, args, every, enabled) "
        "values ('tick', 'proj.tick', '[1]', '1 s', false)"
    )
    return database


@pytest.fixture
def run(ours: Database, inbox: Inbox, tmp_path: Path) -> Iterator[Start]:
    """Starts processes that share a broker, and ends them."""
    running: list[Process] = []

    def start(*command: str, broker: str = inbox.url) -> Process:
        environ = {"BEAT_BROKER": broker, "BEAT_QUEUE": inbox.queue, "PGREACT_DSN": ours.dsn}
        running.append(Process(*command, cwd=tmp_path, **environ))
        return running[-1]

    yield start
    for process in running:
        process.stop()


SHADOW = ("pgreact", "-A", "tests.import_app", "schedule", "shadow", "--json")
BEAT = ("celery", "-A", "tests.import_app", "beat", "-l", "info", "--pidfile=")


def test_shadow_of_an_equal_timetable_finds_no_difference(run: Start) -> None:
    shadow = run(*SHADOW, "--disabled", "--tolerance", "15s")
    shadow.wait_for_log("watching 1 schedules")
    run(*BEAT).ticks(4)
    code, (summary,) = shadow.interrupted()
    assert code == 0
    assert summary["in_time"] >= 2
    assert summary["missed"] == summary["late"] == summary["extra"] == 0


def test_ctrl_c_ends_shadow_started_with_sigint_ignored(run: Start) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts jobs in the background
    try:
        shadow = run(*SHADOW, "--disabled")
    finally:
        signal.signal(signal.SIGINT, before)
    shadow.wait_for_log("watching 1 schedules")
    code, (*_, summary) = shadow.interrupted()
    assert code == (1 if summary["missed"] else 0)


def test_differences_are_printed_and_exit_with_1(ours: Database, run: Start) -> None:
    ours.run(
        "insert into pgreact.schedule (name, task, args, every) values ('other', 'proj.tick', '[2]', '1 s')",
        "update pgreact.schedule set enabled = true, every = '1 h' where name = 'tick'",
    )
    shadow = run(*SHADOW, "--tolerance", "500ms")
    shadow.wait_for_log("watching 2 schedules")
    run(*BEAT).ticks(4)
    code, (*differences, summary) = shadow.interrupted()
    assert code == 1
    extra = [found for found in differences if found["kind"] == "extra"]
    missed = [found for found in differences if found["kind"] == "missed"]
    assert {found["schedule"] for found in extra} == {"tick"}
    assert [(found["schedule"], found["args"]) for found in missed] == [("other", "[2]")]
    assert (summary["extra"], summary["missed"]) == (len(extra), 1)


def test_the_schedule_of_the_application_may_be_compared(run: Start) -> None:
    shadow = run(*SHADOW, "--app-schedule", "--tolerance", "15s")
    shadow.wait_for_log("computed is left out: args[0]")
    shadow.wait_for_log("watching 4 schedules")
    run(*BEAT).ticks(3)
    code, (summary,) = shadow.interrupted()
    assert (code, summary["extra"]) == (0, 0)


def test_a_broker_that_goes_and_comes_back_is_no_difference(run: Start) -> None:
    require_or_skip("redis")
    with redis_server() as server:
        shadow = run(*SHADOW, "--disabled", "--tolerance", "15s", broker=server.url)
        shadow.wait_for_log("watching 1 schedules")
        stop_and_start(server, shadow)
        run(*BEAT, broker=server.url).ticks(3)
        code, (summary,) = shadow.interrupted()
    assert (code, summary["missed"], summary["extra"]) == (0, 0, 0)
    assert summary["in_time"] >= 1


def stop_and_start(server: Server, shadow: Process) -> None:
    """Stop the broker until its absence is noticed."""
    server.kill()
    shadow.wait_for_log("the broker is away")
    server.start()
    shadow.wait_for_log("the broker is back")


def test_message_sent_after_listening_began_is_received(inbox: Inbox) -> None:
    app = Celery("proj", broker=inbox.url, set_as_current=False)
    app.conf.update(
        task_send_sent_event=True, task_default_queue=inbox.queue, event_exchange=f"{inbox.queue}.ev"
    )
    events = Events(app)
    began = datetime.datetime.now(datetime.UTC)
    with events.listening() as connection:
        message = app.send_task("proj.add", (1,), {"a": 2})
        (sent,) = events.receive(connection, 20)
    assert sent.task_id == message.id
    assert sent.call == Call("proj.add", "(1,)", "{'a': 2}")
    assert began <= sent.at <= datetime.datetime.now(datetime.UTC)


def test_silence_of_beat_names_the_setting_it_needs(ours: Database) -> None:
    said = pgreact("-b", "memory://", "schedule", "shadow", "--disabled", "--for", "10ms", dsn=ours.dsn)
    assert said.code == 0
    assert "0 in time, 0 late, 0 missed, 0 sent without being due" in said.out
    assert "task_send_sent_event = True" in said.err


def test_disabled_entries_of_the_application_are_not_expected(
    ours: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proj_off.py").write_text(
        "from celery import Celery\napp = Celery('x', broker='memory://', set_as_current=False)\n"
        "app.conf.beat_schedule = {'off': {'task': 't', 'schedule': 1, 'enabled': False}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = pgreact("-A", "proj_off", "schedule", "shadow", "--app-schedule", "--for", "10ms", dsn=ours.dsn)
    assert "watching 1 schedules" in said.err  # Celery's own, which cleans up results


def test_schedules_that_cannot_be_compared_are_named(ours: Database) -> None:
    def shadow(*arguments: str, broker: str = "memory://") -> tuple[int, str]:
        said = pgreact("-b", broker, "schedule", "shadow", "--for", "10ms", *arguments, dsn=ours.dsn)
        return said.code, said.err

    code, said = shadow()
    assert (code, "no schedule to compare with" in said) == (1, True)
    assert shadow("--app-schedule")[0] == 2
    assert shadow("--tolerance", "soon")[0] == 2
    code, said = shadow("--disabled", broker="redis://127.0.0.1:1/0")
    assert (code, "the broker cannot be reached" in said) == (1, True)
