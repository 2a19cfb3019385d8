"""The gate, one step at a time: real writers and the real gatekeeper in every odd order of their steps.

Writers are sessions of a real PostgreSQL with the real triggers; no step of theirs ever waits, or the test
fails. The gatekeeper runs in this process, on real sessions: before each of its statements, and inside the
functions that it calls there, it lets writers take their steps. Only time and dispatches are
simulated: a signal counts as a dispatch at that instant, which is the worst case, since a later one would
cover more commits.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from pgreact.apply import apply
from pgreact.clock import Clock
from pgreact.dispatch.route import Route
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Trouble, Troubles
from pgreact.settings import Settings
from pgreact.wakeup import gate as gates
from pgreact.wakeup import gatekeeper as keepers
from pgreact.wakeup.gate import Gate
from pgreact.wakeup.gatekeeper import Gatekeeper
from pgreact.wakeup.leadership import Candidate
from tests import servers
from tests.harness import Database, eventually

WRITERS = 3
POLL, OPEN_AFTER = 0.04, 60.0  # so long that polls alone do not open it
LIMIT = "5s"  # for a writer's statement, which must not wait

Step = tuple[Any, ...]


class Lost(AssertionError):
    """A commit without a later dispatch, which the daemon would never find."""


# ---- the writers -------------------------------------------------------------------------------------------


class Writer:
    """A session that writes; a step that is impossible in its state is left out."""

    def __init__(self, world: "World", number: int) -> None:
        self._world = world
        self._number = number
        self._connection = world.database.connect(options=f"-c statement_timeout={LIMIT}")
        self._writes: list[bool] = []  # by savepoint, outermost first; empty: no transaction
        self._stage = ""  # of a write by hand
        self._value = 0
        self._prepared: list[tuple[str, bool]] = []
        self._levels = itertools.cycle(["read committed", "repeatable read", "serializable"])

    def take(self, step: str) -> None:
        """Take one step."""
        if self._stage and step not in {"by hand", "roll back"}:
            self._by_hand()  # the statement that it stands for ends first
            while self._stage:
                self._by_hand()
        getattr(self, "_" + step.replace(" ", "_"))()

    def end(self) -> None:
        """End whatever is open, by committing it."""
        self.take("commit")
        while self._prepared:
            self.take("commit prepared")

    def forget(self) -> None:
        """Undo everything."""
        self._roll_back()
        for name, _ in self._prepared:
            self._run(f"rollback prepared '{name}'")
        self._prepared.clear()

    def _begin(self) -> None:
        if not self._writes:
            self._run(f"begin isolation level {next(self._levels)}")
            self._writes = [False]

    def _write(self) -> None:
        """Through the real trigger; alone, it is a whole transaction."""
        self._run("insert into job_queue default values")
        if self._writes:
            self._writes[-1] = True
        else:
            self._world.committed()

    def _by_hand(self) -> None:
        """What the trigger does, in two statements: PostgreSQL locks S, and then takes a number."""
        self._begin()
        order, gate = self._world.order, f"'pgreact.gate_{self._world.route.id}'"
        step = self._stage or order[0]
        if step == "lock":  # reading it takes the lock, too; a transaction that changes a table has an id
            self._run(f"select pg_current_xact_id(), pg_sequence_last_value({gate})")
        elif order.index("lock") == 0:
            self._value = self._run(f"select nextval({gate})")
        else:
            self._value = self._world.value(f"select nextval({gate})")
        self._stage = dict(itertools.pairwise(order)).get(step, "")
        if not self._stage:
            if self._value < gates.CLOSED:
                self._run(f"select pg_notify('pgreact', '{self._world.route.id}')")
            self._writes[-1] = True

    def _signal(self) -> None:
        """Through the function; alone, it is a whole transaction."""
        self._run("select pgreact.signal('dispatch')")
        if self._writes:
            self._writes[-1] = True
        else:
            self._world.committed()

    def _savepoint(self) -> None:
        if self._writes:
            self._run("savepoint s")
            self._writes.append(False)

    def _roll_back_to_savepoint(self) -> None:
        if len(self._writes) > 1:
            self._run("rollback to savepoint s")
            self._writes[-1] = False

    def _commit(self) -> None:
        if self._writes:
            wrote, self._writes = any(self._writes), []
            self._run("commit")
            if wrote:
                self._world.committed()

    def _roll_back(self) -> None:
        if self._writes:
            self._writes, self._stage = [], ""
            self._run("rollback")

    def _prepare(self) -> None:
        if not self._writes:
            return
        wrote, self._writes = any(self._writes), []
        name = f"{self._number} {next(self._world.names)}"
        try:
            self._run(f"prepare transaction '{name}'")
        except psycopg.errors.FeatureNotSupported:  # it has notified, and so it is rolled back
            return
        self._prepared.append((name, wrote))

    def _commit_prepared(self) -> None:
        if self._prepared and not self._writes:
            name, wrote = self._prepared.pop(0)
            self._run(f"commit prepared '{name}'")
            if wrote:
                self._world.committed()

    def _run(self, statement: str) -> Any:
        cursor = self._connection.execute(statement.encode())
        return (cursor.fetchone() or [None])[0] if cursor.description else None

    def close(self) -> None:
        self._connection.close()


WRITER_STEPS = [
    *["begin", "write", "by hand", "signal", "savepoint", "roll back to savepoint"],
    *["commit", "roll back", "prepare", "commit prepared"],
]


# ---- the daemon --------------------------------------------------------------------------------------------


class Hands(Clock):
    """A clock that only the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        """Return where the hands are."""
        return self.now


@dataclasses.dataclass
class Runner:
    """Stands for the dispatcher."""

    route: Route
    world: "World"

    def signal(self) -> None:
        """Something changed."""
        self.world.signalled()


class Polls:
    """The session of the polls."""

    def __init__(self, session: Session, world: "World") -> None:
        self._session = session
        self._world = world

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Run a statement, which is ``pgreact.poll_gates``."""
        return await self._world.halting(self._session, self._session.fetch(sql, *args), points=1)


class Sets:
    """The session that leads, and so sets S."""

    def __init__(self, candidate: Candidate, world: "World") -> None:
        self._real = candidate
        self._world = world

    async def set_gates(self, route_ids: list[int], sequence_value: int) -> Any:
        """Set S."""
        real = self._real
        answer = await self._world.halting(real.session, real.set_gates(route_ids, sequence_value), points=4)
        if self._world.refusals:
            self._world.refusals -= 1
            raise asyncpg.QueryCanceledError("S was set, and the list was not read to its end")
        return answer


class Unforgiving(Troubles):
    """Only what a test refuses is tried again: any other error is the test's."""

    def __getitem__(self, subject: str) -> Trouble:
        """Return one that raises."""
        trouble = super().__getitem__(subject)
        trouble.failed = _raise  # type: ignore[method-assign]
        return trouble


def _raise(error: Exception) -> float:
    if isinstance(error, asyncpg.QueryCanceledError):
        return 0.0
    raise error


class Leader:
    """A gatekeeper and its sessions."""

    def __init__(self, world: "World", polls: Session, candidate: Candidate) -> None:
        self.polls = polls
        self.candidate = candidate
        self.gatekeeper = Gatekeeper(
            Sets(candidate, world),  # type: ignore[arg-type]
            Polls(polls, world),  # type: ignore[arg-type]
            world.clock,
            lambda _runner, _reason: world.signalled(),
            lambda _runner: None,
            Unforgiving(world.clock),
        )

    @property
    def gate(self) -> Gate:
        """The state of the one gate there is."""
        return next(iter(self.gatekeeper._gates.values())).gate


HALT = """
create function public.halt(point integer) returns void
    language plpgsql
as $$
begin
    perform pg_advisory_lock_shared(77, point), pg_advisory_unlock_shared(77, point);
end
$$
"""


# ---- all of it ---------------------------------------------------------------------------------------------


class World:
    """The sessions that take part, and the commits that no dispatch covers yet."""

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self.database = database
        self.loop = loop
        self.clock = Hands()
        self.order = ("lock", "number")
        self.names = itertools.count()
        with database.connect() as connection:
            found = loop.run_until_complete(self._route())
            assert connection.info.server_version >= 140000
        self.route = found
        self._looking = database.connect()
        self._brake = database.connect()
        database.run(HALT)
        self.functions = {name: self._shipped(name) for name in ("poll_gates", "set_gates", "signal")}
        self._installed: dict[str, str] = {}
        self._pids: dict[Session, int] = {}
        self._listening = database.connect()
        self._listening.add_notify_handler(lambda heard: self._heard.append(heard.payload))
        self._listening.execute("listen pgreact")
        self._heard: list[str] = []
        self.writers = [Writer(self, number) for number in range(WRITERS)]
        self._spare: list[tuple[Session, Candidate]] = []
        self.leader: Leader | None = None
        self._between: list[list[Step]] = []
        self._uncovered: list[int] = []  # commits, by the number of polls that had begun before them
        self._begun = self._ended = 0
        self.refusals = 0  # settings of S that are still to fail

    def _shipped(self, name: str) -> str:
        """Return a function's definition, with a halt between any two of its steps if it is the leader's."""
        text = str(self.value(f"select pg_get_functiondef('pgreact.{name}'::regproc)"))
        if name != "signal":
            steps = r"^    (?=sequence_values :=|perform setval|holders :=|undisturbed :=)"
            points = itertools.count(0 if name == "poll_gates" else 1)
            text = re.sub(
                steps, lambda _: f"    perform public.halt({next(points)});\n    ", text, flags=re.MULTILINE
            )
        return text

    def _install(self) -> None:
        for name, text in self.functions.items():
            if self._installed.get(name) != text:
                self.database.run(text)
        self._installed = dict(self.functions)

    async def _route(self) -> Route:
        session = await Session.open(self.database.dsn, "test")
        rows = await session.fetch(query("routes"))
        await session.close()
        return next(Route.from_row(dict(row)) for row in rows if row["name"] == "dispatch")

    def value(self, statement: str) -> Any:
        """Return the first column of the first row."""
        row = self._looking.execute(statement.encode()).fetchone()
        return row[0] if row else None

    # what happens to the promise

    def committed(self) -> None:
        """A writer committed a change; the leader gets its notification at once, if it sent one."""
        self._uncovered.append(self._begun)
        if self._hears() and self.leader:
            self.signalled()

    def _hears(self) -> bool:
        """Return whether anything was notified; without a mark, which would be a transaction that ends, too.

        PostgreSQL sends a session what was notified before it says that the session's next statement has
        ended, or at the latest before the one after that.
        """
        for _ in range(2):
            self._listening.execute("select 1")
        heard = bool(self._heard)
        self._heard.clear()
        return heard

    def signalled(self) -> None:
        """A signal, or a sweep: it covers all that was committed so far."""
        self._uncovered.clear()

    def check(self) -> None:
        """Make sure that the next poll finds every commit without a dispatch."""
        if self.leader is None:
            return
        mode = self.leader.gate.mode
        overdue = [begun for begun in self._uncovered if mode == "open" or begun < self._ended]
        if overdue:
            raise Lost(f"{len(overdue)} commits, and the gate is {self.leader.gate}")

    # steps

    async def play(self, steps: list[Step]) -> None:
        """Take steps, then let all writers end and the daemon come to rest."""
        self._install()
        try:
            for step in steps:
                await self.take(step)
                self.check()
            for writer in self.writers:
                writer.end()
                self.check()
            await self.take(("elect", []))
            assert self.leader is not None
            for _ in range(6):
                await self.take(("poll", []))
                self.check()
                await self.take(("long silence", []))
                self.check()
            assert self.leader.gate.mode == "open"
            assert not self._uncovered
        finally:
            await self._reset()

    async def take(self, step: Step) -> None:
        """Take one step, of a writer or of the leader."""
        if step[0] == "writer":
            self.writers[step[1]].take(step[2])
            return
        if step[0] == "call":
            step[1]()
            return
        *name, between = step if len(step) > 1 else (*step, [])
        self._between = list(between)
        await getattr(self, "_" + name[0].replace(" ", "_"))()
        left, self._between = self._between, []
        for each in itertools.chain(*left):
            await self.take(each)

    async def halting(self, session: Session, call: Awaitable[Any], points: int) -> Any:
        """Run a function of the daemon; others take their steps before it and at each point inside."""
        await self._others()
        waits = f"select exists (select from pg_locks where pid = {self._pids[session]} and not granted)"
        halts = {point: steps for point in range(1, points + 1) if (steps := self._next())}
        for point in halts:
            self._brake.execute("select pg_advisory_lock(77, %s)", [point])
        try:
            task = asyncio.ensure_future(call)
            for point, steps in halts.items():
                while not task.done() and not self.value(waits):
                    await asyncio.wait({task}, timeout=0.001)
                assert not task.done(), f"it did not halt at {point}"
                for step in steps:
                    await self.take(step)
                self._brake.execute("select pg_advisory_unlock(77, %s)", [point])
            return await task
        finally:
            if halts:
                self._brake.execute("select pg_advisory_unlock_all()")

    def _next(self) -> list[Step]:
        return self._between.pop(0) if self._between else []

    async def _others(self) -> None:
        for step in self._next():
            await self.take(step)

    async def _poll(self) -> None:
        if self.leader:
            self.clock.now += keepers.DRAIN_PAUSE_CAP + POLL
            self._begun += 1
            await self.leader.gatekeeper._poll()
            self._ended = self._begun

    async def _long_silence(self) -> None:
        self.clock.now += OPEN_AFTER
        await self._poll()

    async def _rush(self) -> None:
        if self.leader:
            for _ in range(self.route.gate_close_rate + 1):
                self.leader.gatekeeper.notified(self.route.id)
            await self._poll()

    async def _refuse(self) -> None:
        """The next statement that sets S fails, after it was done."""
        self.refusals = 1

    async def _die(self) -> None:
        if self.leader is None:
            return
        dead, self.leader = self.leader, None
        dead.polls.terminate()
        pid = self._pids[dead.candidate.session]
        dead.candidate.session.terminate()
        gone = f"select not exists (select from pg_locks where pid = {pid})"
        eventually(lambda: self.value(gone), f"the end of session {pid}")

    async def _elect(self) -> None:
        if self.leader is None:
            between, self._between = self._between, []
            polls, candidate = self._spare.pop() if self._spare else await self._sessions()
            self._between = between
            assert await candidate.try_lead()
            self.leader = Leader(self, polls, candidate)
            self._begun += 1
            runners: list[Any] = [Runner(self.route, self)]
            with contextlib.suppress(asyncpg.QueryCanceledError):
                await self.leader.gatekeeper.take_over(runners, "elected")
                self._ended = self._begun
                return
            await self.leader.gatekeeper.take_over(runners, "elected")
            self._ended = self._begun

    async def _sessions(self) -> tuple[Session, Candidate]:
        polls = await Session.open(self.database.dsn, "polls")
        candidate = await Candidate.open(self.database.dsn, "leader", self.clock)
        for session in (polls, candidate.session):
            self._pids[session] = await session.value("select pg_backend_pid()")
        return polls, candidate

    async def _reset(self) -> None:
        self._between = []
        for writer in self.writers:
            writer.forget()
        if self.leader and self.leader.candidate.session.lost.done() is False:
            await self.leader.candidate.session.fetch("select pg_advisory_unlock_all()")
            self._spare.append((self.leader.polls, self.leader.candidate))
        self.leader = None
        self._uncovered.clear()
        self._hears()

    async def close(self) -> None:
        """Close all sessions."""
        await self._reset()
        for polls, candidate in self._spare:
            await polls.close()
            await candidate.session.close()
        for writer in self.writers:
            writer.close()
        self._looking.close()
        self._brake.close()
        self._listening.close()


@pytest.fixture(scope="module", params=[14, 18])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A server that takes prepared transactions, on the oldest and the newest PostgreSQL."""
    servers.require_or_skip(f"pg{request.param}")
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.Postgres(
            bindir=servers.postgres_binaries(request.param), settings={"max_prepared_transactions": "20"}
        ) as postgres,
        asyncio.Runner() as runner,
    ):
        patch.setattr("pgreact.logs.emit", lambda _event: None)
        database = Database(postgres.dsn())
        database.run("create table job_queue (id int generated always as identity)")
        route = {"task": "t", "gate_poll": POLL, "gate_close_rate": 4, "gate_open_after": OPEN_AFTER}
        watch = {"tables": [{"table": "job_queue", "on": ["insert"]}]}
        with database.connect() as connection:
            configured = Settings.model_validate({"routes": {"dispatch": {**route, **watch}}})
            list(apply(connection, configured, 10.0, lambda _line: None))
        found = World(database, runner.get_loop())
        yield found
        runner.run(found.close())


def w(number: int, *steps: str) -> list[Step]:
    """Return steps of one writer."""
    return [("writer", number, step) for step in steps]


NUMBER = st.integers(0, WRITERS - 1)
WHOLE = st.one_of(
    st.builds(lambda number: w(number, "roll back", "write"), NUMBER),
    st.builds(lambda number: w(number, "roll back", "signal"), NUMBER),
)
WRITES = st.one_of(
    st.builds(lambda number: w(number, "begin", "write"), NUMBER),
    st.builds(lambda number: w(number, "by hand"), NUMBER),
    st.builds(lambda number: w(number, "commit"), NUMBER),
    st.builds(w, NUMBER, st.sampled_from(WRITER_STEPS)),
)
NOTHING: st.SearchStrategy[list[Step]] = st.just([])
TWO = st.builds(lambda one, other: [*one, *other], WRITES, WRITES)
# a poll has two places where writers come between, an opening five more
BETWEEN = st.lists(st.one_of(NOTHING, NOTHING, WRITES, WRITES, TWO), max_size=8)
DAEMON = ["poll", "long silence", "rush", "die", "elect", "refuse"]
# what belongs together is likely to come together; anything may come between, all the same
DAEMONS = st.one_of(
    st.builds(lambda between: [("rush", between)], BETWEEN),
    st.builds(lambda between: [("poll", []), ("long silence", between)], BETWEEN),
    st.builds(
        lambda point, steps: [("poll", []), ("long silence", [[]] * point + [steps])],
        st.integers(0, 6),
        st.one_of(WHOLE, WRITES),
    ),
    st.builds(
        lambda name, point, number: [
            ("poll", []),
            (name, [[]] * point + [w(number, "roll back", "begin", "write")]),
            *w(number, "commit"),
        ],
        st.sampled_from(["poll", "long silence"]),
        st.integers(0, 6),
        NUMBER,
    ),
    st.builds(
        lambda point, steps: [("rush", []), ("poll", []), ("long silence", [[]] * point + [steps])],
        st.integers(0, 6),
        st.one_of(WHOLE, WRITES),
    ),
    st.builds(
        lambda name, steps: [("refuse", []), ("poll", []), (name, []), *steps, ("poll", [])],
        st.sampled_from(["rush", "long silence"]),
        WHOLE,
    ),
    st.builds(
        lambda point, number: [
            *w(number, "begin", "write"),
            ("die", []),
            ("elect", [[]] * point + [w(number, "commit")]),
        ],
        st.integers(0, 4),
        NUMBER,
    ),
    st.builds(lambda between: [("poll", between)], BETWEEN),
    st.builds(lambda between: [("die", []), ("elect", between)], BETWEEN),
    st.builds(lambda name, between: [(name, between)], st.sampled_from(DAEMON), BETWEEN),
)
BEGINNING: list[Step] = [("elect", []), ("rush", []), ("poll", [])]
STEPS = st.builds(
    lambda parts: [*BEGINNING, *itertools.chain(*parts)],
    st.lists(st.one_of(WRITES, DAEMONS), max_size=16),
)

UP: list[Step] = [("elect", []), ("poll", [])]
CLOSING: list[Step] = [*UP, ("rush", []), ("poll", [])]


def opening(point: str, *steps: Step, then: tuple[str, list[Step]] | None = None) -> Step:
    """Return a silence that opens the gate, with the writers' steps in between."""
    points = ["poll", "list", "open", "A", "read", "set", "opened"]
    between: list[list[Step]] = [[] for _ in points]
    between[points.index(point)] = list(steps)
    if then:
        between[points.index(then[0])] = then[1]
    return "long silence", between


# What must not be lost, each one of the shortest ways to lose it if a rule is broken.
SCENARIOS: dict[str, list[Step]] = {
    "skipped before the opening, committed after it": [
        *CLOSING, *w(0, "begin", "write"), ("poll", []), ("long silence", []), *w(0, "commit"), ("poll", []),
    ],
    "skipped before the election, committed after it": [
        *CLOSING, *w(0, "begin", "write"), ("die", []), ("elect", []), *w(0, "commit"), ("poll", []),
    ],
    "prepared before the opening, committed after it": [
        *CLOSING, *w(0, "begin", "write", "prepare"), ("poll", []), ("long silence", []), ("poll", []),
        *w(0, "commit prepared"), ("poll", []),
    ],
    "skipped between the two reads": [
        *CLOSING, ("poll", [[], w(0, "begin", "write")]), *w(0, "commit"), ("poll", []),
    ],
    "locked S before the opening, took a number after it": [
        *CLOSING, *w(0, "begin", "by hand"), ("poll", []), ("long silence", []), *w(0, "by hand", "commit"),
        ("poll", []),
    ],
    "skipped, then closed again before it was drained": [
        *CLOSING, *w(0, "begin", "write"), ("poll", []), ("long silence", []), ("rush", []),
        *w(0, "commit"), ("poll", []),
    ],
    "skipped, took the savepoint back, wrote again after the opening": [
        *CLOSING, *w(0, "begin", "savepoint", "write", "roll back to savepoint"), ("poll", []),
        ("long silence", []), *w(0, "write", "commit"), ("poll", []),
    ],
    "skipped and ended between the poll and the opening": [*CLOSING, opening("open", *w(0, "write"))],
    "skipped and ended before S was read": [*CLOSING, opening("A", *w(0, "write"))],
    "skipped and ended before S was set": [*CLOSING, opening("read", *w(0, "write"))],
    # the first number after S was set is logged, which needs a transaction id; not so the second
    "signalled by hand and ended before S was set": [
        *CLOSING, *w(1, "write"), ("poll", []), opening("read", *w(0, "signal")),
    ],
    "skipped before S was set, ended before the list": [
        *CLOSING, opening("read", *w(0, "begin", "write"), then=("set", w(0, "commit"))),
    ],
    "skipped before S was set, committed after the opening": [
        *CLOSING, opening("read", *w(0, "begin", "write")), *w(0, "commit"), ("poll", []),
    ],
    "began before S was set, ended before the list": [
        *CLOSING, *w(0, "begin"), opening("read", *w(0, "write", "commit")),
    ],
    "wrote between setting S and the list": [
        *CLOSING, opening("set", *w(0, "begin", "write")), *w(0, "commit"), ("poll", []),
    ],
    "skipped and ended just after S was set to closed": [
        *UP, ("rush", []), *w(0, "write"), ("poll", []),
    ],
    "wrote after an opening that failed": [
        *CLOSING, *w(0, "begin", "write"), ("poll", []), ("refuse", []), ("long silence", []),
        *w(1, "write"), ("poll", []), *w(0, "commit"), ("poll", []), ("poll", []),
    ],
    "skipped and ended before an opening that failed": [
        *CLOSING, ("refuse", []), opening("read", *w(0, "write")), ("poll", []),
    ],
    "wrote after a closing that failed": [
        *UP, ("refuse", []), ("rush", []), *w(0, "write"), ("poll", []),
    ],
    "wrote while a takeover failed": [
        *CLOSING, ("die", []), ("refuse", []), ("elect", [[], [], [], w(0, "begin", "write")]),
        *w(0, "commit"), ("poll", []),
    ],
    "left closed by a leader that died": [*CLOSING, ("die", []), ("elect", []), *w(0, "write")],
    "ended while the next leader took over": [
        *CLOSING, *w(0, "begin", "write"), ("die", []), ("elect", [[], [], w(0, "commit")]), ("poll", []),
    ],
    "wrote while the next leader took over": [
        *CLOSING, ("die", []), ("elect", [[], [], [], w(0, "begin", "write")]), *w(0, "commit"), ("poll", []),
    ],
}  # fmt: skip


def play(world: World, steps: list[Step]) -> None:
    """Play steps to the end."""
    world.loop.run_until_complete(world.play(steps))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_commit_is_lost_that(world: World, scenario: str) -> None:
    play(world, SCENARIOS[scenario])


SEARCH = settings(
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SEARCH
@given(steps=STEPS)
def test_no_commit_is_forgotten_in_any_order_of_steps(world: World, steps: list[Step]) -> None:
    play(world, steps)


# ---- the trigger, held in the middle -----------------------------------------------------------------------

PAUSED = """
create or replace function public.paused(result bigint, point integer) returns bigint
    language plpgsql
as $$
begin
    perform pg_advisory_xact_lock_shared(78, point);
    return result;
end
$$
"""
TRIGGER = "select pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'job_queue'::regclass"
WAITS = "select exists (select from pg_locks where classid = 78 and not granted)"


class Held:
    """One writer that waits inside the real trigger: it has locked S, or has taken its number."""

    def __init__(self, world: World, point: int) -> None:
        self._world = world
        self._point = point
        self._shipped = world.value(TRIGGER).replace("CREATE TRIGGER", "create or replace trigger")
        self._holder = world.database.connect()
        run = world.database.run
        self._writer = threading.Thread(target=run, args=("insert into job_queue default values",))
        gate = f"'pgreact.gate_{world.route.id}'::regclass"
        number = f"nextval({gate})"
        assert self._shipped.count(number) == 1
        locks = f"public.paused(pg_sequence_last_value({gate}), 1)"
        self._held = self._shipped.replace(
            number, f"case when {locks} is distinct from 0 then public.paused({number}, 2) end"
        )

    def begin(self) -> None:
        """Write, and wait."""
        self._holder.execute("select pg_advisory_lock(78, %s)", [self._point])
        self._world.database.run(PAUSED, self._held)
        self._writer.start()
        self._world.database.until(WAITS)

    def go_on(self) -> None:
        """Go on, and commit."""
        self._end()
        self._world.committed()

    def _end(self) -> None:
        self._holder.close()
        if self._writer.ident:
            self._writer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._world.database.run(self._shipped)


@pytest.mark.parametrize("point", [1, 2])
@pytest.mark.parametrize(
    "meanwhile",
    [
        [("poll", []), ("poll", [])],
        [("poll", []), ("long silence", [])],
        [("die", []), ("elect", [])],
        [("poll", []), ("long silence", []), ("rush", []), ("poll", [])],
    ],
    ids=["polls", "opens", "dies", "opens and closes"],
)
def test_a_writer_held_in_the_trigger_is_not_forgotten(
    world: World, point: int, meanwhile: list[Step]
) -> None:
    with Held(world, point) as writer:
        play(world, [*CLOSING, ("call", writer.begin), *meanwhile, ("call", writer.go_on), ("poll", [])])


# ---- wrong on purpose --------------------------------------------------------------------------------------


def no_drain(_world: World, patch: pytest.MonkeyPatch) -> None:
    """Writers that may have skipped are not followed."""
    right = gates.opened
    patch.setattr(gates, "opened", lambda gate, _holders, now: right(gate, frozenset(), now))


def late_lock(world: World, patch: pytest.MonkeyPatch) -> None:
    """Writers lock S when they have their number."""
    patch.setattr(world, "order", ("number", "lock"))


def _swapped(text: str, *steps: str) -> str:
    """Return a function with two of its steps, a line each, in each other's place."""
    one, other = (re.findall(rf"^    {re.escape(step)}.*\n", text, flags=re.MULTILINE)[0] for step in steps)
    return text.replace(one, "?").replace(other, one).replace("?", other)


def holders_first(world: World, patch: pytest.MonkeyPatch) -> None:
    """The holders are read before S."""
    text = _swapped(world.functions["poll_gates"], "sequence_values :=", "holders :=")
    patch.setitem(world.functions, "poll_gates", text)


def list_then_set(world: World, patch: pytest.MonkeyPatch) -> None:
    """The holders are read before S is set."""
    text = _swapped(world.functions["set_gates"], "perform setval", "holders :=")
    patch.setitem(world.functions, "set_gates", text)


def no_comparison(_world: World, patch: pytest.MonkeyPatch) -> None:
    """An opening does not compare its snapshots."""
    right = gates.activity
    patch.setattr(
        gates, "activity", lambda gate, reading: right(gate, dataclasses.replace(reading, undisturbed=True))
    )


def no_id(world: World, patch: pytest.MonkeyPatch) -> None:
    """A session that calls pgreact.signal and skips has no transaction id."""
    line = "perform pg_current_xact_id();"
    text = world.functions["signal"]
    assert text.count(line) == 1
    patch.setitem(world.functions, "signal", text.replace(line, "null;"))


def left_closed(_world: World, patch: pytest.MonkeyPatch) -> None:
    """A new leader leaves the gate as it is."""
    right = Gatekeeper.take_over

    async def take_over(self: Gatekeeper, runners: Any, reason: str) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(gates, "OPEN", gates.CLOSED)
            await right(self, runners, reason)

    patch.setattr(Gatekeeper, "take_over", take_over)


def open_after_refusal(_world: World, patch: pytest.MonkeyPatch) -> None:
    """A gate whose closing failed is not polled."""
    right = Gatekeeper._close

    async def close(self: Gatekeeper, route_gates: Any, reason: str, sequence_value: int | None) -> None:
        before = [route_gate.gate for route_gate in route_gates]
        try:
            await right(self, route_gates, reason, sequence_value)
        except Exception:
            for route_gate, gate in zip(route_gates, before, strict=True):
                route_gate.gate, route_gate.to_set = gate, False
            raise

    patch.setattr(Gatekeeper, "_close", close)


def sweep_first(_world: World, patch: pytest.MonkeyPatch) -> None:
    """A new leader sweeps before it lists."""
    right = Gatekeeper.take_over

    async def take_over(self: Gatekeeper, runners: Any, reason: str) -> None:
        for runner in runners:
            self._sweep(runner, reason)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self, "_sweep", lambda _runner, _reason: None)
            await right(self, runners, reason)

    patch.setattr(Gatekeeper, "take_over", take_over)


Break = Callable[[World, pytest.MonkeyPatch], None]
BREAKS: dict[Break, list[str]] = {
    no_drain: [
        "skipped before the opening, committed after it",
        "skipped before the election, committed after it",
        "prepared before the opening, committed after it",
        "skipped before S was set, committed after the opening",
    ],
    holders_first: ["skipped between the two reads"],
    late_lock: ["locked S before the opening, took a number after it"],
    list_then_set: ["wrote between setting S and the list", "wrote while the next leader took over"],
    no_comparison: [
        "skipped and ended before S was set",
        "signalled by hand and ended before S was set",
        "skipped before S was set, ended before the list",
    ],
    no_id: ["signalled by hand and ended before S was set"],
    left_closed: ["left closed by a leader that died"],
    open_after_refusal: ["wrote after a closing that failed"],
    sweep_first: ["ended while the next leader took over"],
}


@pytest.mark.parametrize(
    ("wrong", "scenario"), [(wrong, name) for wrong, names in BREAKS.items() for name in names]
)
def test_each_rule_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: Break, scenario: str
) -> None:
    wrong(world, monkeypatch)
    with pytest.raises(Lost):
        play(world, SCENARIOS[scenario])


@pytest.mark.parametrize("world", [18], indirect=True)
# only the second number since S was set finds a session without an id: too rare
@pytest.mark.parametrize("wrong", [wrong for wrong in BREAKS if wrong is not no_id])
def test_random_steps_find_each_broken_rule_too(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: Break
) -> None:
    wrong(world, monkeypatch)

    def loses(steps: list[Step]) -> bool:
        try:
            play(world, steps)
        except Lost:
            return True
        return False

    find(
        STEPS, loses, settings=settings(SEARCH, max_examples=2000, phases=[Phase.generate], derandomize=True)
    )
