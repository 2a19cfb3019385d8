"""Every statement of the daemon meets every class of error: all the rest goes on, and so does the leader.

The daemon runs in this process, so that an error can be raised where the driver would raise it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpg
import psutil
import pytest

from pgreact import logs
from pgreact.daemon import metrics_sampler, status_writer
from pgreact.dispatch import run_monitor
from pgreact.postgres import errors
from pgreact.queue import maintenance, roll_up
from tests.harness import Database, Inbox
from tests.in_process import running
from tests.scrape import scrape

Install = Callable[..., None]

# What the daemon says to the server, by what stands in its text.
STATEMENTS = {
    "session settings": "set_config(s.name, s.value, false)",
    "replica": "pg_is_in_recovery",
    "probe": "pg_notify($1, $2)",
    "lead": "pgreact.acquire_lock($1",
    "application name": "set_config('application_name'",
    "routes": "from pgreact.route\n",
    "route errors": "-- The error of each route whose last publish failed",
    "take over": "pgreact.set_gates",
    "poll": "pgreact.poll_gates",
    "ready": "from job_queue",
    "ready queue": "exists (select from pgreact.queue)",
    "plans": "set_config('enable_seqscan'",
    "database id": "pgreact.database_id",
    "claim": "pgreact.claim",
    "settle": "pgreact.settle",
    "tasks": "from pgreact.task t",
    "routing of tasks": "pgreact.route_tasks",
    "housekeeping": "pgreact.maintain_history",
    "status": "insert into pgreact.flight",
    "troubles": "from pgreact.trouble",
    "roll-up": "pgreact.roll_up",
    "last version": "-- The version of the last leader",
    "events": "pgreact.log_event",
    "run monitor": "lock_class('next')",
    "next schedule": "as wait,",
    "due schedules": "due as materialized",
    "fire": "pgreact.fire(",
    "canary": "pgreact.send_canary",
    "schedule history": "pgreact.maintain_schedule_history",
    "plans of a wrong clock": "-- Schedules that a clock far ahead may have planned",
    "ids of due schedules": "-- The ids of the rows of timetable_due",
    "unreadable schedule": "-- The name of a schedule, and its times beyond",
    "metrics: lanes": "from pgreact.lane_depths()",
    "metrics: totals": "as keeps_dying",
    "metrics: settled": "-- Attempts settled since the installation",
    "metrics: times": "-- Histograms of waits and runs",
    "metrics: schedules": "-- Schedules by state",
    "metrics: server": "-- oldest_xmin_s:",
    "metrics: triggers": "-- Each watched change",
    "metrics: canary": "-- The canary, in one row",
    "metrics: outbox": "-- Each row of pgreact.outbox",
    "owner": "from pgreact.installation",
    "unpublished": "select pgreact.unpublished(",
    "alive": "select 1",
}
AT_START = {
    "session settings",
    "replica",
    "lead",
    "application name",
    "routes",
    "route errors",
    "take over",
    "plans",
    "ready queue",
    "database id",
    "unpublished",
    "tasks",
    "last version",
}
# The timetable searches for a row that it cannot read when a row may be at fault.
SEARCH = {"ids of due schedules", "unreadable schedule"}

CLASSES: dict[str, Callable[[], Exception]] = {
    "40001": lambda: asyncpg.SerializationError("could not serialize access"),
    "40P01": lambda: asyncpg.DeadlockDetectedError("deadlock detected"),
    "53100": lambda: asyncpg.DiskFullError("no space left on device"),
    "53200": lambda: asyncpg.OutOfMemoryError("out of memory"),
    "55P03": lambda: asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
    "57014": lambda: asyncpg.QueryCanceledError("canceling statement due to user request"),
    "25006": lambda: asyncpg.ReadOnlySQLTransactionError("cannot execute in a read-only transaction"),
    "42501": lambda: asyncpg.InsufficientPrivilegeError("permission denied"),
    "22008": lambda: asyncpg.DatetimeFieldOverflowError("date/time field value out of range"),
    "ValueError": lambda: ValueError("Exceeds the limit (4300 digits) for integer string conversion"),
}


class Faults:
    """Stands between the daemon and its driver."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.raised = 0
        self.seen_when_raised = 0  # of the statement that failed, when it failed last
        self._armed: tuple[str, Callable[[], Exception], int] | None = None

    def arm(self, name: str, make: Callable[[], Exception], times: int) -> None:
        """Let a statement fail so many times."""
        self.raised = 0
        self._armed = name, make, times

    def check(self, text: str) -> None:
        """Raise what is due for a statement."""
        if re.match("begin|commit|rollback|savepoint|release|listen", text, re.IGNORECASE):
            return
        name = ", ".join(name for name, part in STATEMENTS.items() if part in text) or text
        self.seen[name] += 1
        if self._armed and self._armed[0] == name and self.raised < self._armed[2]:
            self.raised += 1
            self.seen_when_raised = self.seen[name]
            raise self._armed[1]()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Nothing fails yet; what fails is tried again soon."""
    faults = Faults()
    fetch, fetchval = asyncpg.Connection.fetch, asyncpg.Connection.fetchval

    async def faulty(self: Any, sql: str, *args: Any, **options: Any) -> Any:
        faults.check(sql)
        return await fetch(self, sql, *args, **options)

    async def faulty_value(self: Any, sql: str, *args: Any, **options: Any) -> Any:
        faults.check(sql)
        return await fetchval(self, sql, *args, **options)

    monkeypatch.setattr(asyncpg.Connection, "fetch", faulty)
    monkeypatch.setattr(asyncpg.Connection, "fetchval", faulty_value)
    monkeypatch.setattr(errors, "_PAUSES", dict.fromkeys(errors.ErrorKind, (0.005, 0.02)))
    monkeypatch.setattr(status_writer, "PAUSE", 0.02)
    monkeypatch.setattr(run_monitor, "PAUSE", 0.02)
    monkeypatch.setattr(roll_up, "PAUSE", 0.02)
    monkeypatch.setattr(maintenance, "PAUSE", 0.1)
    monkeypatch.setattr(maintenance, "SOON", 0.05)
    monkeypatch.setattr(metrics_sampler, "INTERVAL", 0.05)
    monkeypatch.setattr("pgreact.daemon.daemon.HEARTBEAT", 0.1)
    monkeypatch.setattr("pgreact.timetable.engine.MAINTENANCE_INTERVAL", 0.1)
    return faults


@pytest.fixture
def busy(database: Database, inbox: Inbox, installed: Install) -> Database:
    """A database in which everything the daemon does is asked for."""
    installed(database)
    database.run("create table job_queue (id int)")
    settings = {
        "routes": {
            "dispatch": {
                "task": "proj.dispatch",
                "sweep": "1s",
                "window": "10ms",
                "single_flight": "run",
                "expires": "100ms",
                "ready": "select count(*) >= 0 from job_queue",
                "options": inbox.options,
                "gate_close_rate": 1,
                "tables": [{"table": "job_queue", "on": ["insert"]}],
            }
        },
        "schedules": {
            "often": {
                "task": "proj.often",
                "every": "100ms",
                "options": inbox.options,
                "retention": "1h",
            }
        },
        "lanes": {inbox.queue: {"max_unstarted": 1_000_000}},
    }
    installed(database, settings)
    return database


async def keep_busy(database: Database, inbox: Inbox) -> None:
    """Write, enqueue and edit until cancelled: each statement has its reason."""
    connection = await asyncpg.connect(database.dsn)
    statements = [
        "insert into job_queue values (1)",
        f"select pgreact.enqueue('proj.job', options => '{{\"queue\": \"{inbox.queue}\"}}')",
        # each of a new task, whose routing is asked for
        "select pgreact.enqueue('proj.' || clock_timestamp(), options => '{\"serializer\": \"no-such\"}')",
        "update pgreact.route set countdown = countdown where id > 0",
        "update pgreact.queue_setting set canary = '1s'",
    ]
    try:
        while True:
            for statement in statements:
                await connection._protocol.query(statement, 10)  # past the faults
                await asyncio.sleep(0.01)
    finally:
        connection.terminate()


@pytest.mark.parametrize("sqlstate", CLASSES)
async def test_every_statement_survives(
    busy: Database, inbox: Inbox, faults: Faults, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    make = CLASSES[sqlstate]
    async with running(busy, inbox.url, monkeypatch, http="127.0.0.1:0") as run:
        await run.until(lambda: run.count(logs.LeaderElected), "elected")
        (opened,) = (event for event in run.events if isinstance(event, logs.HttpOpened))
        await asyncio.to_thread(scrape, opened.address)  # so that the leader samples
        descriptors = psutil.Process().num_fds()
        writer = asyncio.create_task(keep_busy(busy, inbox))
        try:
            for name in STATEMENTS.keys() - AT_START - SEARCH - {"alive"}:
                faults.arm(name, make, 3)
                if name == "troubles":  # written only when they change
                    run.daemon._troubles.report("test", sqlstate)
                if name == "events":
                    assert run.daemon._term
                    run.daemon._term.events.add("test.added", sqlstate)
                await run.until(lambda: faults.raised == 3, f"{name} has failed")
                seen = faults.seen_when_raised
                if (name, sqlstate) == ("fire", "22008"):
                    # it is the schedule's own, and stops it until an edit, as soon as that can be written
                    await run.until(lambda: run.count(logs.ScheduleFailed), "the schedule has failed")
                    busy.run("update pgreact.schedule set description = 'edited'")
                    seen = faults.seen[name]
                await run.until(lambda: faults.seen[name] > seen, f"{name} is tried again")  # noqa: B023
            published, claimed = run.count(logs.DispatchPublished), run.count(logs.QueueDispatched)
            fired = run.count(logs.ScheduleFired)
            await run.until(lambda: run.count(logs.DispatchPublished) > published, "dispatches go on")
            await run.until(lambda: run.count(logs.QueueDispatched) > claimed, "jobs go on")
            await run.until(lambda: run.count(logs.ScheduleFired) > fired, "schedules go on")
            run.daemon._troubles.report("test", None)
            await run.until(lambda: not run.daemon._troubles.reports(), "all is over")
        finally:
            writer.cancel()
            await asyncio.wait({writer})
        assert run.count(logs.LeaderElected) == 1
        assert not run.count(logs.LeaderLost)
        assert not run.count(logs.ListenerLost)
        assert run.count(logs.ScheduleFailed) == (sqlstate == "22008")
        told = Counter(event.statement for event in run.events if isinstance(event, logs.StatementFailed))
        over = Counter(event.statement for event in run.events if isinstance(event, logs.StatementRecovered))
        assert told == over
        assert psutil.Process().num_fds() < descriptors + 50, "some hundred messages were refused"
    assert faults.seen.keys() - STATEMENTS.keys() == set(), "a statement that is not listed"
    assert STATEMENTS.keys() - faults.seen.keys() <= SEARCH, "a statement that is never met proves nothing"


@pytest.mark.parametrize("sqlstate", CLASSES)
@pytest.mark.parametrize("name", sorted(AT_START - {"session settings", "replica", "ready queue"}))
async def test_a_daemon_that_served_before_is_elected_in_spite_of_it(
    busy: Database,
    inbox: Inbox,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sqlstate: str,
) -> None:
    async with running(busy, inbox.url, monkeypatch) as run:
        run.daemon._served = True  # otherwise a right that is missing is a mistake in how it is set up
        faults.arm(name, CLASSES[sqlstate], 3)
        await run.until(lambda: run.count(logs.LeaderElected), "elected")
        await run.until(lambda: faults.raised == 3, f"{name} has failed")
        await run.until(lambda: run.count(logs.SweepFinished), "it leads")
        assert not run.count(logs.ListenerLost)
