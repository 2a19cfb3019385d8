"""The gate, one step at a time: real writers and the real gatekeeper take turns as nobody would expect.

Writers are sessions of a real PostgreSQL with the real triggers; no step of theirs ever waits, or the test
fails. The gatekeeper runs in this process, on real sessions: before each of its statements it lets writers
take their steps. Only time and what is dispatched are make-believe: a signal counts as a dispatch at that
instant, which is the worst that can happen, since a later one would cover more commits.
"""

import asyncio
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from pgreact.clock import Clock
from pgreact.database.plan import apply
from pgreact.database.session import Session
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.dispatch.route import Route
from pgreact.settings import Settings
from pgreact.shipped import query
from pgreact.wakeup import gate as gates
from pgreact.wakeup import gatekeeper as keepers
from pgreact.wakeup.gate import Gate
from pgreact.wakeup.gatekeeper import Gatekeeper, Post
from pgreact.wakeup.leadership import Candidate
from tests import servers
from tests.ear import Ear
from tests.harness import Database, eventually

WRITERS = 3
POLL, OPEN_AFTER = 0.04, 1.0
PATIENCE = 0.01  # seconds in which B is really waited for
LIMIT = "5s"  # for a writer's statement: nobody may make it wait
W, B = 1885827688, 1885827689

Step = tuple[Any, ...]


class Lost(AssertionError):
    """A commit that no dispatch has followed, and of which nothing will ever remind the daemon."""


# ---- the writers -------------------------------------------------------------------------------------------


class Writer:
    """A session that writes; a step that makes no sense where it stands is left out."""

    def __init__(self, world: "World", number: int) -> None:
        self._world = world
        self._number = number
        self._connection = world.database.connect(options=f"-c statement_timeout={LIMIT}")
        self._writes: list[bool] = []  # by savepoint, outermost first; empty: no transaction
        self._stage = ""  # of a write by hand
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
        """Take everything back."""
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
        """What the trigger does, in as many statements as it has steps."""
        self._begin()
        order = self._world.order
        self._stage, shut = self._stage or order[0], self._stage == "skip"
        if self._stage == "W":
            self._run(f"select pg_try_advisory_xact_lock_shared({W}, {self._world.route.id})")
        elif self._stage == "B":
            got = self._run(f"select pg_try_advisory_xact_lock_shared({B}, {self._world.route.id})")
            if got:
                self._run(f"select pg_notify('pgreact', '{self._world.route.id}')")
                self._stage, self._writes[-1] = "", True
                return
        elif shut:
            self._run(f"select nextval('pgreact.skips_{self._world.route.id}')")
            self._stage, self._writes[-1] = "", True
            return
        self._stage = order[order.index(self._stage) + 1]

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
    *["begin", "write", "by hand", "savepoint", "roll back to savepoint"],
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


class Looks:
    """The session of the polls; before each statement, others take steps."""

    def __init__(self, session: Session, world: "World") -> None:
        self._session = session
        self._world = world

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Run a statement."""
        await self._world.between()
        return await self._session.fetch(sql, *args)


class Asks:
    """The session that leads, and so asks for B."""

    def __init__(self, candidate: Candidate, world: "World") -> None:
        self.real = candidate
        self._world = world

    @property
    def backend_pid(self) -> int:
        """As it is."""
        return self.real.backend_pid

    async def shut(self, route_id: int, _patience: float) -> bool:
        """Ask for B; others take steps while it waits, or when it has it."""
        asking = asyncio.create_task(self.real.shut(route_id, PATIENCE))
        waits = f"select exists (select from pg_locks where pid = {self.backend_pid} and not granted)"
        while not asking.done() and not self._world.value(waits):
            await asyncio.wait({asking}, timeout=0.001)
        await self._world.between()
        return await asking

    async def unshut(self, route_id: int) -> None:
        """Let it go."""
        await self._world.between()
        await self.real.unshut(route_id)


class Leader:
    """A gatekeeper and its sessions."""

    def __init__(self, world: "World", looks: Session, candidate: Candidate) -> None:
        self.looks = looks
        self.candidate = candidate
        self.asks = Asks(candidate, world)
        self.keeper = Gatekeeper(
            self.asks,  # type: ignore[arg-type]
            Looks(looks, world),  # type: ignore[arg-type]
            world.clock,
            lambda _runner, _reason: world.signalled(),
            lambda _runner: None,
        )

    @property
    def gate(self) -> Gate:
        """The state of the one gate there is."""
        return next(iter(self.keeper._posts.values())).gate


# ---- all of it ---------------------------------------------------------------------------------------------


class World:
    """Who takes part, and what is owed."""

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self.database = database
        self.loop = loop
        self.clock = Hands()
        self.order = ("W", "B", "skip")
        self.names = itertools.count()
        with database.connect() as connection:
            found = loop.run_until_complete(self._route())
            assert connection.info.server_version >= 140000
        self.route = found
        self._looking = database.connect()
        self._ear = Ear(database)
        self.writers = [Writer(self, number) for number in range(WRITERS)]
        self._spare: list[tuple[Session, Candidate]] = []
        self._dying: list[Candidate] = []
        self.leader: Leader | None = None
        self._between: list[list[Step]] = []
        self._owed: list[int] = []  # commits, by how many looks had begun before them
        self._begun = self._ended = 0
        self.restless = False

    async def _route(self) -> Route:
        session = await Session.open(self.database.dsn, "test")
        rows = await session.fetch(query("routes"))
        await session.close()
        return Route.from_row(dict(rows[0]))

    def value(self, statement: str) -> Any:
        """Return the first column of the first row."""
        row = self._looking.execute(statement.encode()).fetchone()
        return row[0] if row else None

    # what happens to the promise

    def committed(self) -> None:
        """Somebody committed a change; whoever listens hears of it at once, if it notified."""
        self._owed.append(self._begun)
        if self._ear.heard() and self.leader:
            self.signalled()

    def signalled(self) -> None:
        """A signal, or a sweep: it covers all that was committed so far."""
        self._owed.clear()

    def check(self) -> None:
        """Nothing may be owed that the next look will not find."""
        if self.leader is None:
            return
        mode = self.leader.gate.mode
        overdue = [begun for begun in self._owed if mode == "open" or begun < self._ended]
        if overdue:
            raise Lost(f"{len(overdue)} commits, and the gate is {self.leader.gate}")

    # steps

    async def play(self, steps: list[Step]) -> None:
        """Take steps, then let all writers end and the daemon come to rest."""
        try:
            for step in steps:
                await self.take(step)
                self.check()
            for writer in self.writers:
                writer.end()
                self.check()
            await self.take(("old sessions end",))
            await self.take(("elect", []))
            assert self.leader is not None
            for _ in range(6):
                await self.take(("look", []))
                self.check()
                await self.take(("long silence", []))
                self.check()
            assert self.leader.gate.mode == "open"
            assert not self._owed
        finally:
            await self._reset()

    async def take(self, step: Step) -> None:
        """Take one step, of whoever it is."""
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
            if each[0] == "writer":
                await self.take(each)

    async def between(self) -> None:
        """The daemon is about to run a statement."""
        for step in self._between.pop(0) if self._between else []:
            if step[0] == "writer":
                await self.take(step)
            else:
                await self._ask_meanwhile()
        if self.restless:
            await self._ask_meanwhile()

    async def _ask_meanwhile(self) -> None:
        if self.leader and not self.leader.keeper._asking.locked():
            await self.leader.keeper._ask_once()

    async def _asks_all_the_time(self) -> None:
        self.restless = True  # as the daemon does while it is not granted B

    async def _look(self) -> None:
        if self.leader:
            self.clock.now += keepers.DRAIN_PAUSE_CAP + POLL
            self._begun += 1
            await self.leader.keeper._look()
            self._ended = self._begun

    async def _long_silence(self) -> None:
        self.clock.now += OPEN_AFTER
        await self._look()

    async def _rush(self) -> None:
        if self.leader:
            for _ in range(self.route.gate_close_rate + 1):
                self.leader.keeper.notified(self.route.id)
            await self._look()

    async def _ask(self) -> None:
        if self.leader:
            await self.leader.keeper._ask_once()

    async def _die(self, *, slowly: bool = False) -> None:
        if self.leader is None:
            return
        dead, self.leader = self.leader, None
        dead.looks.abandon()
        if slowly:
            self._dying.append(dead.candidate)
        else:
            await self._end(dead.candidate)

    async def _die_slowly(self) -> None:
        await self._die(slowly=True)

    async def _old_sessions_end(self) -> None:
        while self._dying:
            await self._end(self._dying.pop())

    async def _end(self, candidate: Candidate) -> None:
        pid = candidate.backend_pid
        candidate.session.abandon()
        gone = f"select not exists (select from pg_locks where pid = {pid})"
        eventually(lambda: self.value(gone), f"the end of session {pid}")

    async def _elect(self) -> None:
        if self.leader is None:
            between, self._between = self._between, []
            looks, candidate = self._spare.pop() if self._spare else await self._sessions()
            self._between = between
            self.leader = Leader(self, looks, candidate)
            self._begun += 1
            await self.leader.keeper.take_over([Runner(self.route, self)], "elected")  # type: ignore[list-item]
            self._ended = self._begun

    async def _sessions(self) -> tuple[Session, Candidate]:
        looks = await Session.open(self.database.dsn, "looks")
        return looks, await Candidate.open(self.database.dsn, "leader", self.clock)

    async def _reset(self) -> None:
        self._between, self.restless = [], False
        for writer in self.writers:
            writer.forget()
        await self._old_sessions_end()
        if self.leader and self.leader.candidate.session.lost.done() is False:
            await self.leader.candidate.session.fetch("select pg_advisory_unlock_all()")
            self._spare.append((self.leader.looks, self.leader.candidate))
        self.leader = None
        self._owed.clear()
        self._ear.heard()

    async def close(self) -> None:
        """Close all sessions."""
        await self._reset()
        for looks, candidate in self._spare:
            await looks.close()
            await candidate.session.close()
        for writer in self.writers:
            writer.close()
        self._looking.close()
        self._ear.__exit__(None, None, None)


@pytest.fixture(scope="module", params=[14, 18])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A server that takes prepared transactions, on the oldest and the newest PostgreSQL."""
    servers.require_or_skip(f"pg{request.param}")
    with (
        pytest.MonkeyPatch.context() as patch,
        EmbeddedPostgres(
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
WRITES = st.one_of(
    st.builds(lambda number: w(number, "begin", "write"), NUMBER),
    st.builds(lambda number: w(number, "by hand"), NUMBER),
    st.builds(lambda number: w(number, "commit"), NUMBER),
    st.builds(w, NUMBER, st.sampled_from(WRITER_STEPS)),
)
ASKS: st.SearchStrategy[list[Step]] = st.just([("ask",)])
NOTHING: st.SearchStrategy[list[Step]] = st.just([])
TWO = st.builds(lambda one, other: [*one, *other], st.one_of(WRITES, ASKS), WRITES)
BETWEEN = st.lists(st.one_of(NOTHING, WRITES, ASKS, ASKS, TWO), max_size=5)
DAEMON = ["look", "long silence", "rush", "ask", "die", "die slowly", "elect", "old sessions end"]
# what belongs together is likely to come together; anything may come between, all the same
DAEMONS = st.one_of(
    st.builds(lambda between: [("rush", []), ("ask", between)], BETWEEN),
    st.builds(lambda between: [("look", []), ("long silence", between)], BETWEEN),
    st.builds(lambda between: [("look", between)], BETWEEN),
    st.builds(
        lambda how, between: [(how, []), ("elect", between)], st.sampled_from(["die", "die slowly"]), BETWEEN
    ),
    st.builds(lambda name, between: [(name, between)], st.sampled_from(DAEMON), BETWEEN),
)
BEGINNING: list[Step] = [("elect", []), ("rush", []), ("ask", [])]
STEPS = st.builds(
    lambda restless, parts: [*restless, *BEGINNING, *itertools.chain(*parts)],
    st.sampled_from([[], [("asks all the time", [])]]),
    st.lists(st.one_of(WRITES, DAEMONS), max_size=16),
)

UP: list[Step] = [("elect", []), ("look", [])]
SHUT: list[Step] = [*UP, ("rush", []), ("ask", []), ("look", [])]

# What must not be lost, each one of the shortest ways to lose it if a rule is broken.
SCENARIOS: dict[str, list[Step]] = {
    "skipped before the opening, committed after it": [
        *SHUT, *w(0, "begin", "write"), ("look", []), ("long silence", []), *w(0, "commit"), ("look", []),
    ],
    "skipped before the election, committed after it": [
        *SHUT, *w(0, "begin", "write"), ("die", []), ("elect", []), *w(0, "commit"), ("look", []),
    ],
    "prepared before the opening, committed after it": [
        *SHUT, *w(0, "begin", "write", "prepare"), ("look", []), ("long silence", []), ("look", []),
        *w(0, "commit prepared"), ("look", []),
    ],
    "skipped between the two reads": [
        *SHUT, ("look", [[], w(0, "begin", "write")]), *w(0, "commit"), ("look", []),
    ],
    "found B shut before the opening, skipped after it": [
        *SHUT, *w(0, "begin", "by hand"), ("long silence", []), *w(0, "by hand", "by hand", "commit"),
        ("look", []),
    ],
    "skipped, then closed again before it was drained": [
        *SHUT, *w(0, "begin", "write"), ("look", []), ("long silence", []), ("rush", []),
        *w(0, "commit"), ("look", []),
    ],
    "skipped because of a leader whose session has not ended": [
        *SHUT, ("die slowly", []), ("elect", []), ("look", []), *w(0, "write"), ("look", []),
    ],
    # it was asked for in vain all the time, and so at that very moment
    "B asked for again before the gate counts as open": [
        *UP, *w(0, "begin", "write"), ("rush", []), ("ask", []), ("look", []),
        ("long silence", [[], [], [*w(0, "roll back"), ("ask",)]]), *w(1, "write"),
    ],
    "skipped, took the savepoint back, wrote again after the opening": [
        *SHUT, *w(0, "begin", "savepoint", "write", "roll back to savepoint"), ("look", []),
        ("long silence", []), *w(0, "write", "commit"), ("look", []),
    ],
}  # fmt: skip


def play(world: World, steps: list[Step]) -> None:
    """Play steps to the end."""
    world.loop.run_until_complete(world.play(steps))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_commit_is_not_forgotten_that_was(world: World, scenario: str) -> None:
    play(world, SCENARIOS[scenario])


SEARCH = settings(
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SEARCH
@given(steps=STEPS)
def test_whatever_the_order_of_steps_no_commit_is_forgotten(world: World, steps: list[Step]) -> None:
    play(world, steps)


# ---- the trigger, held in the middle -----------------------------------------------------------------------

PAUSED = """
create or replace function public.paused(result {0}, point integer) returns {0}
    language plpgsql
as $$
begin
    perform pg_advisory_xact_lock_shared(77, point);
    return result;
end
$$
"""
TRIGGER = "select pg_get_triggerdef(oid) from pg_trigger where tgname ~ '^pgreact_'"
WAITS = "select exists (select from pg_locks where classid = 77 and not granted)"


class Held:
    """One writer that waits inside the real trigger, after its first, second or third step."""

    def __init__(self, world: World, point: int, *, w_first: bool = True) -> None:
        self._world = world
        self._point = point
        self._shipped = world.value(TRIGGER).replace("CREATE TRIGGER", "create or replace trigger")
        self._holder = world.database.connect()
        run = world.database.run
        self._writer = threading.Thread(target=run, args=("insert into job_queue default values",))
        tries = "pg_try_advisory_xact_lock_shared({}, {})"
        w_taken, b_taken = (tries.format(lock, world.route.id) for lock in (W, B))
        next_number = f"nextval('pgreact.skips_{world.route.id}'::regclass)"
        places = [self._shipped.index(step) for step in (w_taken, b_taken, next_number)]
        assert places == sorted(places)
        self._held = self._shipped
        if not w_first:
            one, other = w_taken, f"(NOT {b_taken})"
            assert self._held.count(other) == 1
            self._held = self._held.replace(one, "?").replace(other, one).replace("?", other)
        order = [w_taken, b_taken] if w_first else [b_taken, w_taken]
        for number, step in enumerate([*order, next_number], 1):
            self._held = self._held.replace(step, f"public.paused({step}, {number})")

    def begin(self) -> None:
        """Write, and wait."""
        self._holder.execute("select pg_advisory_lock(77, %s)", [self._point])
        self._world.database.run(PAUSED.format("boolean"), PAUSED.format("bigint"), self._held)
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


@pytest.mark.parametrize("point", [1, 2, 3])
@pytest.mark.parametrize(
    "meanwhile",
    [
        [("look", []), ("look", [])],
        [("look", []), ("long silence", [])],
        [("die", []), ("elect", [])],
        [("look", []), ("long silence", []), ("rush", []), ("ask", [])],
    ],
    ids=["polls", "opens", "dies", "opens and closes"],
)
def test_a_writer_held_in_the_trigger_is_not_forgotten(
    world: World, point: int, meanwhile: list[Step]
) -> None:
    with Held(world, point) as writer:
        play(world, [*SHUT, ("call", writer.begin), *meanwhile, ("call", writer.go_on), ("look", [])])


def test_a_trigger_that_takes_w_after_b_loses_a_commit(world: World) -> None:
    meanwhile: list[Step] = [("look", []), ("long silence", [])]
    with Held(world, 1, w_first=False) as writer, pytest.raises(Lost):
        play(world, [*SHUT, ("call", writer.begin), *meanwhile, ("call", writer.go_on), ("look", [])])


# ---- wrong on purpose --------------------------------------------------------------------------------------


def no_drain(_world: World, patch: pytest.MonkeyPatch) -> None:
    """Who may have skipped is not followed."""
    right = gates.listed
    patch.setattr(gates, "listed", lambda gate, _holders, **rest: right(gate, frozenset(), **rest))


def holders_first(_world: World, patch: pytest.MonkeyPatch) -> None:
    """W's holders are read before S."""
    skips, holders = Gatekeeper._skips, Gatekeeper._holders
    early: list[dict[int, frozenset[str]]] = []

    async def swapped(self: Gatekeeper, posts: list[Post]) -> dict[int, int]:
        early.append(await holders(self, posts))
        return await skips(self, posts)

    async def known(self: Gatekeeper, posts: list[Post]) -> dict[int, frozenset[str]]:
        return {post.runner.route.id: frozenset() for post in posts} | early.pop()

    patch.setattr(Gatekeeper, "_skips", swapped)
    patch.setattr(Gatekeeper, "_holders", known)


def b_before_w(world: World, patch: pytest.MonkeyPatch) -> None:
    """Writers take W after B."""
    patch.setattr(world, "order", ("B", "W", "skip"))


def no_old_leader(_world: World, patch: pytest.MonkeyPatch) -> None:
    """A leader does not look whether somebody else shuts the gate."""
    right = gates.listed
    patch.setattr(
        gates, "listed", lambda gate, holders, **rest: right(gate, holders, **{**rest, "foreign": False})
    )


def always_asking(_world: World, patch: pytest.MonkeyPatch) -> None:
    """B is asked for as long as the gate does not count as open."""

    async def ask(self: Gatekeeper) -> None:
        for post in self._posts.values():
            post.wanted = post.gate.mode == "polling"
        await right(self)

    right = Gatekeeper._ask_once
    patch.setattr(Gatekeeper, "_ask_once", ask)


Break = Callable[[World, pytest.MonkeyPatch], None]
BREAKS: dict[Break, list[str]] = {
    no_drain: [
        "skipped before the opening, committed after it",
        "skipped before the election, committed after it",
        "prepared before the opening, committed after it",
    ],
    holders_first: ["skipped between the two reads"],
    b_before_w: ["found B shut before the opening, skipped after it"],
    no_old_leader: ["skipped because of a leader whose session has not ended"],
    always_asking: ["B asked for again before the gate counts as open"],
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
@pytest.mark.parametrize("wrong", BREAKS)
def test_steps_at_random_find_it_too(world: World, monkeypatch: pytest.MonkeyPatch, wrong: Break) -> None:
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
