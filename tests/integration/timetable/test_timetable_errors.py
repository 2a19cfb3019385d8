"""The timetable's engine among errors of statements, rows that hold what none should, and locks."""

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from pgreact import logs
from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.clock import Clock
from pgreact.postgres.trouble import Troubles
from pgreact.timetable import engine
from pgreact.timetable.backlog import of_a_row
from tests.harness import DEADLINE, Database, Inbox, Late
from tests.timetable import Timetable

Install = Callable[..., None]

ERRORS: dict[str, type[Exception]] = {
    "40001": asyncpg.SerializationError,
    "40P01": asyncpg.DeadlockDetectedError,
    "53100": asyncpg.DiskFullError,
    "53200": asyncpg.OutOfMemoryError,
    "55P03": asyncpg.LockNotAvailableError,
    "57014": asyncpg.QueryCanceledError,
    "57P01": asyncpg.AdminShutdownError,
    "25006": asyncpg.ReadOnlySQLTransactionError,
    "42501": asyncpg.InsufficientPrivilegeError,
    "22003": asyncpg.NumericValueOutOfRangeError,
    "XX001": asyncpg.DataCorruptedError,
    "Python": ArithmeticError,
}
# What each statement of the engine has in its text, and whether only a new session runs it.
STATEMENTS = {
    "pinning": (r"set_config\((s\.)?name", True),
    "settings": ("enable_seqscan", True),
    "lock": (r"pgreact\.acquire_lock\(", True),
    "next": ("as wait,", False),
    "due": ("as every_us,", False),
    "fire": (r"pgreact\.fire\(", False),
    "history": (r"pgreact\.maintain_schedule_history\(", False),
    "begin": ("^begin$", False),
    "commit": ("^commit$", False),
    "commit and rollback": ("^(commit|rollback)$", False),
}


class Quick(Clock):
    """Does not wait as long as it should."""

    def backoff(self, failures: int, *, base: float, cap: float) -> float:
        """Return a hundredth of it."""
        return super().backoff(failures, base=base, cap=cap) / 100


class Broker:
    """Takes all messages."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def post(self, messages: Sequence[JobMessage]) -> PublishResult:
        """Take them."""
        self.sent += [message.task_id for message in messages]
        return PublishResult(list(messages))


class Fault:
    """Makes a statement of the driver fail a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._text = ""
        self._error: type[Exception] = Exception
        real = asyncpg.Connection.fetch

        async def fetch(connection: Any, sql: str, *args: object, **more: Any) -> Any:
            if self.left and re.search(self._text, sql):
                self.left -= 1
                if not hasattr(self._error, "sqlstate"):
                    await real(connection, sql, *args, **more)  # it is the answer that cannot be read
                raise self._error("as the test has it")
            return await real(connection, sql, *args, **more)

        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)

    async def strike(self, text: str, error: type[Exception], times: int, deadline: float = DEADLINE) -> None:
        """Fail, and wait until it has failed as often as it should."""
        self._text, self._error, self.left = text, error, times
        end = time.monotonic() + deadline
        while self.left:
            if time.monotonic() > end:
                raise Late(f"{text} did not fail as often: {self.left} are left")
            await asyncio.sleep(0.005)


class Engine:
    """The engine in this process, and what it logs."""

    def __init__(self, table: Timetable, monkeypatch: pytest.MonkeyPatch, clock: type[Clock] = Quick) -> None:
        self.table = table
        self.broker = Broker()
        self.events: list[Any] = []
        monkeypatch.setattr(logs, "emit", self.events.append)
        self.troubles = Troubles(clock())
        self._timetable = engine.Timetable(
            table.database.dsn, self.broker, clock(), self.troubles, notified=False
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engine; it must not end by itself."""
        task = asyncio.create_task(self._timetable.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def seen(self, kind: type[Any], **keys: object) -> list[Any]:
        """Return the events of a kind so far."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, key) == value for key, value in keys.items())
        ]

    def told_once(self) -> int:
        """Assert that each failure and its end were logged once; return how many there were."""
        failing: dict[str, set[str]] = {}
        for event in self.events:
            if isinstance(event, logs.StatementFailed):
                assert event.error not in failing.setdefault(event.statement, set()), event
                failing[event.statement].add(event.error)
            elif isinstance(event, logs.StatementRecovered):
                assert failing.pop(event.statement), event
        assert failing == {}
        return len(self.seen(logs.StatementFailed))

    async def until(self, condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
        """Wait until something is true."""
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                shown = "\n".join(map(str, self.events[-30:]))
                raise Late(f"not in {deadline:g} s: {what}; the log so far:\n{shown}")
            await asyncio.sleep(0.005)

    async def fires(self, *names: str) -> None:
        """Wait until each of these schedules has fired twice more."""
        for name in names:
            before = len(self.seen(logs.ScheduleFired, schedule=name))
            await self.until(
                lambda name=name, before=before: (
                    len(self.seen(logs.ScheduleFired, schedule=name)) >= before + 2
                ),
                f"{name} fires",
            )


@pytest.fixture
def table(database: Database, inbox: Inbox, installed: Install) -> Timetable:
    """A timetable without a leader."""
    installed(database)
    database.run("insert into pgreact.lane (name, paused) values ('held', true)")
    return Timetable(database, inbox)


# ---- errors of statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_no_error_of_a_statement_ends_the_timetable_or_switches_a_schedule_off(
    statement: str, table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, opening = STATEMENTS[statement]
    monkeypatch.setattr(engine, "MAINTENANCE_INTERVAL", 0.05)
    fault, running = Fault(monkeypatch), Engine(table, monkeypatch)
    for name in ("a", "b"):
        table.add(name, every="'100 ms'")
    for name in ("sent", "too"):
        table.direct(name, every="'100 ms'")
    everyone = ("a", "b", "sent", "too")
    ended = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name ~ '^pgreact (timetable|messages)' and datname = current_database()"
    )
    async with running.running():
        await running.fires(*everyone)
        for state, error in ERRORS.items():
            running.events.clear()
            # of a statement that fires one row, such an error is the row's own, and stops it until an edit
            own = state == "22003" and statement in {"fire", "begin", "commit", "commit and rollback"}
            strike = fault.strike(text, error, 1 if own else 3)
            if opening:
                await asyncio.gather(strike, asyncio.to_thread(table.database.run, ended))
            else:
                await strike
            if statement == "due" and of_a_row(error("as the test has it")):
                # a search by halves that met the last of these errors finds no row at fault, and logs nothing
                while not running.seen(logs.StatementFailed):
                    await fault.strike(text, error, 3)
            if own:
                while not running.seen(logs.ScheduleFailed):
                    # several rows were fired at once: each was tried again alone, and then they were fired
                    fired = len(running.seen(logs.ScheduleFired))
                    await running.until(
                        lambda fired=fired: (
                            running.seen(logs.ScheduleFailed)
                            or len(running.seen(logs.ScheduleFired)) >= fired + 8
                        ),
                        "it is the row's, or of several",
                    )
                    if not running.seen(logs.ScheduleFailed):
                        await fault.strike(text, error, 1)
                table.database.run("update pgreact.schedule set description = 'x' where state = 'failed'")
            await running.fires(*everyone)
            await running.until(lambda: not running.troubles.reports(), f"all is over after {state}")
            assert running.told_once() or own, state
            assert table.database.value("select count(*) from pgreact.schedule where state <> 'planned'") == 0
            assert bool(running.seen(logs.ScheduleFailed)) == own, state
    assert table.database.value(
        "select count(*) = count(distinct (schedule, nominal_at)) from pgreact.schedule_history "
        "where outcome = 'fired'"
    )


@pytest.mark.parametrize("role", ["timetable", "messages"])
async def test_a_lost_session_costs_no_more_than_itself(
    role: str, table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch)
    table.add("a", every="'100 ms'")
    table.direct("sent", every="'100 ms'")
    session = (
        "select pid from pg_stat_activity where application_name like %s and datname = current_database()"
    )
    async with running.running():
        await running.fires("a", "sent")
        firing = table.database.value(session, "pgreact timetable%")
        table.database.value(f"select pg_terminate_backend(({session}))", f"pgreact {role}%")
        await running.until(lambda: running.seen(logs.StatementFailed), "it is told")
        await running.fires("a", "sent")
        if role == "messages":
            assert table.database.value(session, "pgreact timetable%") == firing
    [failed] = running.seen(logs.StatementFailed)
    assert (failed.statement, failed.kind) == (f"session {role}", "lost")
    assert running.told_once() == 1
    if role == "timetable":  # what was being sent was sent to its end
        assert len(running.broker.sent) == len(set(running.broker.sent))


# ---- rows that hold what none should -----------------------------------------------------------------------

TIMES = (
    *("at", "anchor", "start_at", "end_at", "created_at", "next_nominal_at", "next_run_at"),
    *("last_nominal_at", "last_run_at"),
)
POISON = [
    *(
        (column, value)
        for column in TIMES
        for value in ("infinity", "-infinity", "20000-01-01Z", "4000-01-01Z BC")
    ),
    *(
        (column, str(2**63 - 1))
        for column in ("revision", "run_count", "misfire_count", "last_job", "max_runs")
    ),
    *(
        (column, str(-(2**63)))
        for column in ("revision", "run_count", "misfire_count", "last_job", "max_runs")
    ),
    *(("every", value) for value in ("170000000 years", "-1 s", "0", "1 us")),
    *(
        (column, value)
        for column in ("jitter", "grace", "expires", "retention")
        for value in ("170000000 years", "-170000000 years")
    ),
    *(("catch_up", value) for value in ("2147483647", "0", "-2147483648")),
    *(("priority", value) for value in ("2147483647", "-2147483648")),
    *(("max_attempts", value) for value in ("2147483647", "0", "-2147483648")),
    *((column, value) for column in ("args", "kwargs", "options") for value in ("[]", "{}", "null", "7")),
    *((column, "") for column in ("name", "task", "lane", "timezone", "misfire", "delivery", "state")),
    *((column, "x" * 5000) for column in ("name", "task", "lane", "timezone", "description", "misfire")),
    ("origin", "nowhere"),
    ("entry", "7"),
]


def poison(table: Timetable) -> list[str]:
    """Take all checks away, and make a row of each kind for each delivery; return their names."""
    table.database.run(
        *(
            f"alter table pgreact.schedule drop constraint {name}"
            for name in table.database.value(
                "select array_agg(quote_ident(conname)) from pg_constraint "
                "where conrelid = 'pgreact.schedule'::regclass and contype = 'c'"
            )
        ),
        "alter table pgreact.schedule disable trigger user",
    )
    names = []
    for delivery in ("queue", "direct"):
        for number, (column, value) in enumerate(POISON):
            for state in ("new", "planned"):
                name = f"{delivery} {number} {state}"
                columns = {
                    "name": f"'{name}'",
                    "task": "'proj.tick'",
                    "every": "'10 min'" if column != "at" else "null",
                    "misfire": "'all'",
                    "lane": "'held'",
                    "retention": "'1 day'",
                    "delivery": f"'{delivery}'",
                    "state": f"'{state}'",
                    "next_nominal_at": "now() - interval '1 h'" if state == "planned" else "null",
                    "next_run_at": "now() - interval '1 h'" if state == "planned" else "null",
                    column: f"'{value}'" if column != "name" or not value else f"'{name} {value}'",
                }
                with contextlib.suppress(
                    Exception
                ):  # "infinity" is no interval before 17, and names are unique
                    table.database.run(
                        f"insert into pgreact.schedule ({', '.join(columns)}) "
                        f"values ({', '.join(columns.values())})"
                    )
                    names.append(name)
    return names


@pytest.mark.alone  # it holds lateness to a bound
async def test_rows_with_invalid_values_hold_up_no_other(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch, Clock)
    names = poison(table)
    assert len(names) > 2 * 2 * len(POISON) - 10
    table.add("tick", every="'200 ms'", misfire="'all'")
    table.direct("sent", every="'200 ms'", misfire="'all'")
    table.database.run("update pgreact.schedule set state = 'new' where name in ('tick', 'sent')")
    async with running.running():
        await running.fires("tick", "sent")
        for name in ("tick", "sent"):  # hundreds of others had an hour to make up for
            fired = functools.partial(running.seen, logs.ScheduleFired, schedule=name)
            await running.until(lambda fired=fired: fired()[-1].lateness_ms < 200, f"{name} is in time")
        running.events.clear()
        await running.fires("tick", "sent", "tick", "sent")
        assert max(event.lateness_ms for event in running.seen(logs.ScheduleFired)) < 500
        assert running.seen(logs.TimetableAcquired) == []
        reports = {report.subject: report.error for report in running.troubles.reports()}
    assert reports
    assert all(subject.startswith("schedule ") for subject in reports)
    number = POISON.index(("created_at", "20000-01-01Z"))
    assert reports[f"schedule queue {number} planned"] == (
        "created_at is 20000-01-01T00:00:00+00:00: set it to a time between the years 1 and 9999"
    )


# ---- rows that others have locked --------------------------------------------------------------------------


@pytest.mark.parametrize(("delivery", "count"), [("direct", 2001), ("queue", 10_001)])
async def test_more_locked_schedules_than_a_page_hold_up_no_other(
    delivery: str, count: int, table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch, Clock)
    table.database.run(
        "insert into pgreact.schedule (name, task, lane, every, delivery, next_run_at) "
        f"select 'locked ' || n, 't', 'held', '1 h', '{delivery}', now() from generate_series(1, {count}) n"
    )
    add = table.add if delivery == "queue" else table.direct
    add("tick", every="'1 s'", misfire="'all'")
    with table.database.connect(autocommit=False) as holder:
        holder.execute("select from pgreact.schedule where name like 'locked %' for update")
        async with running.running():
            await running.fires("tick", "tick")
            running.events.clear()
            await running.fires("tick", "tick", "tick")
            # of two cores, shared with the test; without the place where looks begin, it is never fired
            assert min(event.lateness_ms for event in running.seen(logs.ScheduleFired)) < 250
            holder.rollback()
            await running.until(
                lambda: len(running.seen(logs.ScheduleFired)) > count, "those that were locked fire", 60
            )
    assert running.seen(logs.StatementFailed) == []


async def test_locked_schedule_fires_soon_after_its_lock_is_released(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch, Clock)
    table.add("edited", every="'100 ms'")
    table.add("tick", every="'100 ms'")
    async with running.running():
        await running.fires("edited", "tick")
        with table.database.connect(autocommit=False) as holder:
            holder.execute("select from pgreact.schedule where name = 'edited' for update")
            await running.fires("tick", "tick")
            holder.rollback()
        running.events.clear()
        await running.until(
            lambda: running.seen(logs.ScheduleFired, schedule="edited"), "it fires", deadline=1.0
        )


# ---- errors of rows in a statement on many -----------------------------------------------------------------


async def test_a_row_that_cannot_even_be_marked_is_set_aside_until_it_is_mended(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch, Clock)
    table.add("bad", every="'1 h'")
    table.add("good", every="'100 ms'")
    async with running.running():
        await running.until(lambda: running.seen(logs.SchedulePlanned, schedule="bad"), "it is planned")
        table.database.run(
            "update pgreact.schedule set next_run_at = now() where name = 'bad'",
            "alter table pgreact.schedule add constraint odd check (name <> 'bad' or priority = 5) not valid",
        )
        await running.until(running.troubles.reports, "it is set aside")
        await running.fires("good")
        [report] = running.troubles.reports()
        assert report.subject == "schedule bad"
        assert '"odd"' in report.error
        table.database.run("update pgreact.schedule set priority = 5 where name = 'bad'")
        await running.until(lambda: running.seen(logs.ScheduleFired, schedule="bad"), "it fires")
        await running.until(lambda: not running.troubles.reports(), "it is over")
    assert running.told_once() == 1


# ---- history -----------------------------------------------------------------------------------------------


@pytest.mark.alone  # it holds lateness to a bound
async def test_much_history_is_deleted_while_firing_goes_on(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Engine(table, monkeypatch, Clock)
    table.add("tick", every="'100 ms'", misfire="'all'")
    table.database.run(
        "insert into pgreact.schedule (name, task, lane, every, retention) "
        "select 'kept ' || n, 't', 'held', '1 day', '1 day' from generate_series(1, 150) n",
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome) "
        "select name || n % 150, now(), now() - n * interval '1 s', 'fired' "
        "from generate_series(1, 100000) n, (values ('kept '), ('gone ')) s (name)",
    )
    forgotten = (
        "select not exists (select from pgreact.schedule_history "
        "where schedule ~ '^gone (?!7$)' or fired_at < now() - interval '25 h' and schedule ~ '^kept')"
    )
    locked = "select from pgreact.schedule_history where schedule = 'gone 7' limit 10 for update"
    with table.database.connect(autocommit=False) as holder:
        holder.execute(locked)
        async with running.running():
            await running.fires("tick")
            await running.until(lambda: table.database.value(forgotten), "old history is forgotten", 60)
            late = [event.lateness_ms for event in running.seen(logs.ScheduleFired)]
            left = "select count(*) from pgreact.schedule_history where schedule = 'gone 7'"
            assert table.database.value(left) == 10
    assert sorted(late)[len(late) // 2] < 100
    assert running.seen(logs.StatementFailed) == []
