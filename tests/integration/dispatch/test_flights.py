"""single_flight = "run" with real workers and a real daemon: one run, one that follows, no lost signal."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import NEVER, Daemon, Database, Inbox, eventually

Start = Callable[..., Daemon]
Install = Callable[..., None]

APP = """
import os, time
import psycopg
from celery import Celery
import pgreact

app = Celery("proj", broker=os.environ["BROKER"])
app.conf.worker_enable_remote_control = False
app.conf.worker_prefetch_multiplier = 1
if os.environ.get("KNOWS_PGREACT") == "yes":
    pgreact.setup(app, dsn=os.environ["DSN"])

@app.task(name="proj.dispatch")
def dispatch():
    with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
        (run,) = connection.execute("insert into run default values returning id").fetchone()
        # the test decides how long it takes
        while connection.execute("select exists (select from hold)").fetchone()[0]:
            time.sleep(0.01)
        connection.execute("update run set ended_at = clock_timestamp() where id = %s", (run,))
"""

TABLES = (
    "create table job_queue (id bigint generated always as identity)",
    (
        "create table run (id bigint generated always as identity, pid int default pg_backend_pid(), "
        "began_at timestamptz default clock_timestamp(), ended_at timestamptz)"
    ),
    "create table hold (id int)",
)
OVERLAPS = """
select count(*) from run a join run b on a.id < b.id
where b.began_at < coalesce(a.ended_at, 'infinity') and a.ended_at is not null
"""


class Workers:
    """Celery workers on one queue."""

    def __init__(self, directory: Path, dsn: str, inbox: Inbox) -> None:
        self._directory = directory
        self._environment = {**os.environ, "DSN": dsn, "BROKER": inbox.url}
        self._queue = inbox.queue
        self._processes: list[subprocess.Popen[bytes]] = []
        (directory / "app.py").write_text(APP)

    def start(self, *, knows_pgreact: bool = True, processes: int = 2) -> subprocess.Popen[bytes]:
        """Start one."""
        name = f"w{len(self._processes)}@{self._queue}"
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "app", "worker"),
                    *("-Q", self._queue, "-c", str(processes), "-l", "info", "-n", name, *quiet),
                ],
                cwd=self._directory,
                env={**self._environment, "KNOWS_PGREACT": "yes" if knows_pgreact else "no"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def logged(self, event: str) -> int:
        """Count an event in the logs of all."""
        return sum(log.read_text().count(f"{event}:") for log in self._directory.glob("w*.log"))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one with all its children."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        children = [p for p in psutil.process_iter() if _group(p.pid) == process.pid]
        psutil.wait_procs(children, timeout=10)

    def stop(self) -> None:
        """Kill all."""
        for process in self._processes:
            self.kill(process)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def queue(database: Database, inbox: Inbox, installed: Install) -> Database:
    """A route whose flights last as long as its runs."""
    database.run(*TABLES)
    installed(database, _configuration(inbox))
    return database


def _configuration(inbox: Inbox, **route: Any) -> dict[str, Any]:
    return {
        "routes": {
            "dispatch": {
                "task": "proj.dispatch",
                "single_flight": "run",
                "sweep": NEVER,
                "window": "10ms",
                "expires": "5s",
                "ready": "select false",
                "options": inbox.options,
                "tables": [{"table": "job_queue", "on": ["insert"]}],
                **route,
            }
        }
    }


@pytest.fixture
def workers(queue: Database, inbox: Inbox, tmp_path: Path) -> Iterator[Workers]:
    """None yet."""
    found = Workers(tmp_path, queue.dsn, inbox)
    yield found
    found.stop()


@pytest.fixture
def leader(queue: Database, inbox: Inbox, daemons: Start) -> Daemon:
    """A daemon that leads and has nothing to do."""
    daemon = daemons(queue.dsn, inbox.url)
    daemon.wait_for("sweep.finished", route="dispatch", dispatch=False)
    return daemon


def test_a_burst_during_a_run_leads_to_exactly_one_more(
    leader: Daemon, queue: Database, workers: Workers
) -> None:
    workers.start()
    queue.run("insert into hold values (1)", "insert into job_queue default values")
    first = leader.wait_for("flight.started")
    for _ in range(20):
        queue.run("insert into job_queue default values")
    leader.wait_for("signal.received", count=2)
    assert not leader.seen("flight.ended")
    queue.run("truncate hold")
    assert leader.wait_for("flight.ended")["task_id"] == first["task_id"]
    leader.wait_for("flight.ended", count=2, outcome="done")
    assert leader.stop() == 0
    assert [event["signals"] for event in leader.seen("dispatch.published")] == [1, 20]
    assert queue.value("select count(*) from run") == 2
    assert queue.value(OVERLAPS) == 0


def test_a_killed_worker_ends_its_flight_and_the_work_is_done_by_another(
    leader: Daemon, queue: Database, workers: Workers
) -> None:
    victim = workers.start()
    queue.run("insert into hold values (1)", "insert into job_queue default values")
    lost = leader.wait_for("flight.started")
    workers.kill(victim)
    queue.run("truncate hold")
    leader.wait_for("flight.ended", task_id=lost["task_id"], outcome="lost")
    workers.start()
    leader.wait_for("flight.ended", outcome="done")
    assert queue.value("select count(*) from run where ended_at is not null") == 1


def test_messages_that_no_worker_starts_are_published_one_at_a_time_and_reported_once(
    leader: Daemon, queue: Database, workers: Workers
) -> None:
    queue.run("update pgreact.route set expires = '1 s'")
    leader.wait_for("route.changed")
    for _ in range(5):
        queue.run("insert into job_queue default values")
    leader.wait_for("flight.ended", count=2, outcome="expired", deadline=30)
    assert len(leader.seen("flight.unstarted")) == 1
    assert len(leader.seen("dispatch.published")) <= 3
    queue.until("select unstarted_since is not null from pgreact.flight where route_id = 1")
    workers.start()
    leader.wait_for("flight.ended", outcome="done", deadline=30)
    queue.until("select unstarted_since is null from pgreact.flight where route_id = 1")


def test_a_worker_without_pgreact_is_noticed(leader: Daemon, queue: Database, workers: Workers) -> None:
    queue.run("update pgreact.route set expires = '1 s'")
    leader.wait_for("route.changed")
    workers.start(knows_pgreact=False)
    queue.run("insert into job_queue default values")
    queue.until("select exists (select from run)")
    assert "pgreact.setup(app)" in leader.wait_for("flight.unstarted")["hint"]


def test_a_new_leader_lets_nothing_run_twice(
    leader: Daemon, queue: Database, workers: Workers, inbox: Inbox, daemons: Start, installed: Install
) -> None:
    installed(queue, _configuration(inbox, ready=None))  # its sweep finds work
    standby = daemons(queue.dsn, inbox.url).ready()
    workers.start()
    workers.start()
    queue.run("insert into hold values (1)", "insert into job_queue default values")
    leader.wait_for("flight.started")
    leader.kill()
    published = standby.wait_for("dispatch.published")
    # a worker waits with the new leader's message while the old one's still runs
    waits = "select exists (select from pg_locks where classid = 1885827691 and granted)"
    queue.until(waits)
    assert not standby.seen("flight.started")
    queue.run("truncate hold")
    standby.wait_for("flight.ended", task_id=published["task_id"], outcome="done")
    assert queue.value("select count(*) from run") == 2
    assert queue.value(OVERLAPS) == 0


def test_an_extra_message_sent_by_hand_is_dropped_and_not_replaced(
    leader: Daemon, queue: Database, workers: Workers, inbox: Inbox
) -> None:
    from celery import Celery

    workers.start(processes=4)  # one for each message
    queue.run("insert into hold values (1)", "insert into job_queue default values")
    leader.wait_for("flight.started")
    route = queue.value("select id from pgreact.route where name = 'dispatch'")
    app = Celery(broker=inbox.url, set_as_current=False)
    for _ in range(3):
        app.send_task(
            "proj.dispatch", queue=inbox.queue, headers={"pgreact_route": route}, ignore_result=True
        )
    queue.until("select exists (select from pg_locks where classid = 1885827691 and granted)")
    eventually(lambda: workers.logged("flight.dropped") == 2, "the others are dropped")
    assert not leader.seen("notification.rejected"), "their words are understood"
    queue.run("truncate hold")
    leader.wait_for("flight.ended", outcome="done")
    queue.until("select count(*) = 2 from run where ended_at is not null")
    assert queue.value(OVERLAPS) == 0
    app.close()
