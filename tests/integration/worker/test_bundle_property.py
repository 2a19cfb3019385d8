"""Any sequence of bundles, bodies and faults settles each job once and starts no attempt twice."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import NotGuarded
from pgreact.worker.bundle import BundledJob, Pace
from pgreact.worker.bundle_loop import BundleLoop, Item
from pgreact.worker.bundle_settlements import AbandonedBundle
from pgreact.worker.jobs import Jobs
from pgreact.worker.lease_renewer import LeaseRenewer, Sendable
from pgreact.worker.run import Run, postponed, settled
from pgreact.worker.session import Session, SessionPool
from tests.harness import Database, fresh_database
from tests.jobs_cluster import prepare

ROUNDS = 40
GENTLE_BODIES = ("done", "done", "slow", "failed", "retry", "twin")
BODIES = (*GENTLE_BODIES, "exit", "killed")
GENTLE_FAULTS = ("none", "none", "before", "locked", "late", "cancel")
FAULTS = (*GENTLE_FAULTS, "after", "kill before", "kill after")
RETRY = json.dumps({"task": "t", "args": [], "kwargs": {}, "options": {}, "retries": 1, "before": 0})


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class World:
    """A database with jobs, and what happens to the processes that run them."""

    def __init__(self, database: Database, size: int, bodies: list[str], faults: list[str]) -> None:
        self.database, self.size = database, size
        self.connection = database.connect(autocommit=True)
        self.bodies, self.faults = list(bodies), list(faults)
        self.now = 1000.0
        self.begun: list[tuple[int, str, int]] = []  # bodies: the job, the attempt and the message
        self.finished: set[int] = set()  # their bodies ended well, and their processes have told so
        self.cancelled: set[int] = set()
        self.loop: BundleLoop | None = None
        self.send_all: Callable[[], None] = lambda: None
        self.run_twin: Callable[[], None] | None = (
            None  # a duplicate message in another thread of the process
        )
        self.main = Session(database.dsn)  # of the workers' main process

    def close(self) -> None:
        self.main.close()
        self.connection.close()

    def clock(self) -> float:
        return self.now

    def value(self, statement: str, *values: Any) -> Any:
        row = self.connection.execute(statement, values).fetchone()
        return row[0] if row else None

    def body(self, run: Run) -> str:
        """Run a body; return how it ended."""
        attempt = run.job, run.claim, run.retries
        assert attempt not in self.begun, f"{run} starts twice"
        assert run.job not in self.finished, f"{run} runs again, though it has ended well"
        self.begun.append(attempt)
        self.now += 0.004
        how = self.bodies.pop() if self.bodies else "done"
        if how == "slow":
            self.now += 0.2
            if self.loop:
                self.loop.hand_over()
                self.send_all()  # as the lease renewer's thread does meanwhile
        if how == "twin" and self.run_twin:
            self.run_twin()
        if how == "exit":
            raise SystemExit(3)
        if how == "killed":
            raise Killed
        return how


class Renewer(LeaseRenewer):
    """Keeps what is to be sent until the test sends it."""

    def __init__(self, pool: SessionPool) -> None:
        super().__init__(pool)
        self.later: list[Sendable] = []

    def send_later(
        self,
        settlement: Sendable,
        _error: Exception | None = None,
        _lease: float | None = None,
    ) -> None:
        if not any(settlement.repeats(other) for other in self.later):
            self.later.append(settlement)

    def _wake(self) -> None:
        pass


class FaultySession:
    """A session whose statements fail as the world wants."""

    def __init__(self, session: Session, world: World) -> None:
        self.session, self.world = session, world

    def execute_pinned(self, name: str, **values: Any) -> Any:
        world = self.world
        if world.loop:
            world.loop.hand_over()
        fault = world.faults.pop() if world.faults else "none"
        if fault == "kill before":
            raise Killed
        if fault == "before":
            raise NotGuarded("away") from psycopg.OperationalError("away")
        if fault == "locked":
            raise NotGuarded("locked") from psycopg.errors.LockNotAvailable("locked")
        if fault == "cancel":
            found = world.value("select min(id) from pgreact.in_progress")
            if world.value("select pgreact.cancel(%s)", found):
                world.cancelled.add(found)  # it may end badly, and without another attempt
        answer = self.session.execute_pinned(name, **values)
        if fault == "after":
            raise NotGuarded("away") from psycopg.OperationalError("away")
        if fault == "kill after":
            raise Killed
        if fault == "late":
            world.now += 100.0
        return answer


class Pool(SessionPool):
    """The sessions of a process of the world."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database.dsn)
        self._world = world

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        with super().session() as session:
            yield FaultySession(session, self._world)


class Process:
    """A worker's child."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.name = world, f"w {number}"
        self.jobs = Jobs(world.database.dsn, timeout=0.0)
        self.jobs._pool = Pool(world)
        self.renewer = self.jobs._renewer = Renewer(self.jobs._pool)
        world.send_all = self.send_all
        self.pace = Pace()
        self.pace.size = world.size
        self.ended: set[int] = set()

    def run(self, todo: list[BundledJob]) -> None:
        """Run a bundle, and send what it left for later."""
        loop = BundleLoop(
            self.jobs, todo, self.name, self.pace, lambda _job: ([], {}), clock=self.world.clock
        )
        loop._leave_all = self._unless_killed(loop._leave_all)  # type: ignore[method-assign]
        before = self.world.loop, self.world.run_twin
        self.world.loop = loop
        self.world.run_twin = (lambda: self.run(todo)) if before[1] is None else None
        try:
            loop.run(self.trace)
        finally:
            self.world.loop, self.world.run_twin = before
        if before[0] is None:
            self.send_all()
            self.world.finished |= self.ended

    def run_alone(self, run: Run) -> None:
        """Run a message of its own."""
        if self.jobs.start(run):
            self.finish(self.jobs, run)
        self.send_all()

    def close(self) -> None:
        self.jobs.pool.close()

    def trace(self, loop: BundleLoop, item: Item) -> None:
        loop.start(item.run)
        self.finish(loop, item.run)

    def finish(self, jobs: Any, run: Run) -> None:
        how = self.world.body(run)
        if how == "failed":
            jobs.end(settled(run, "failed", "as told"))
        elif how == "retry":
            jobs.end(postponed(run, RETRY, 0.0))
        else:
            jobs.end(settled(run, "done"))
            self.ended.add(run.job)

    def send_all(self) -> None:
        while self.renewer.later:
            settlement = self.renewer.later[0]
            try:
                with self.jobs.pool.session() as session:
                    settlement.send(session)
            except NotGuarded:
                continue
            self.renewer.later.pop(0)

    def _unless_killed(self, leave: Any) -> Any:
        def left() -> None:
            if not isinstance(sys.exc_info()[1], Killed):
                leave()

        return left


@pytest.fixture(scope="module")
def queue(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with fresh_database(postgres) as database:
        prepare(database)
        database.run(
            "update pgreact.queue_setting set retention = '1 day', lease = '60 s'",
            "select pgreact.maintain_history()",
            "update pgreact.lane set max_lost = 1000 where name = 'default'",
        )
        yield database


def run_world(world: World, count: int, sizes: list[int], *, duplicates: bool, main_lives: bool) -> None:
    """Claim jobs and run them in bundles, until none is left."""
    world.connection.execute(
        "truncate pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.history, pgreact.contested_key"
    )
    for _ in range(count):
        world.value(
            "select pgreact.enqueue('t', lane => 'default', max_attempts => 1000, backoff => '0', "
            "max_lost => 1000)"
        )
    sizes, number = list(sizes), 0
    process = Process(world, number)
    for _ in range(ROUNDS):
        # what nobody renews any more
        world.connection.execute(
            "update pgreact.in_progress set lease_until = now() - interval '1 s', "
            "published_at = published_at - interval '1 h', claimed_at = claimed_at - interval '1 h'"
        )
        jobs = world.value("select pgreact.claim(100) -> 'jobs'")
        if not world.value(
            "select exists (select from pgreact.queue) or exists (select from pgreact.in_progress)"
        ):
            process.close()
            return
        alone = [job for job in jobs if job["retries"] or job["before"]]
        bundled = [job for job in jobs if not (job["retries"] or job["before"])]
        parts: list[list[dict[str, Any]]] = []
        while bundled:
            size = sizes.pop() if sizes else 3
            parts.append(bundled[:size])
            bundled = bundled[size:]
        for part in parts:
            todo = [
                BundledJob(j["id"], j["claim_id"], j["task_id"], j["attempt"], True, "[]", "{}") for j in part
            ]
            for _copy in range(1 + duplicates):
                try:
                    process.run(todo)
                except (Killed, SystemExit) as death:
                    if isinstance(death, SystemExit):
                        with contextlib.suppress(Killed):
                            process.send_all()
                    process.close()
                    if main_lives:
                        AbandonedBundle(todo, process.name, "lost", "it died", None).send(world.main)
                    number += 1
                    process = Process(world, number)
        for job in alone:
            run = Run(
                job["id"], job["claim_id"], job["retries"] + job["before"], process.name, job["task_id"]
            )
            try:
                process.run_alone(run)
            except (Killed, SystemExit):
                process.close()
                number += 1
                process = Process(world, number)
    pytest.fail(f"jobs are left after {ROUNDS} rounds")


GENTLE = st.tuples(
    st.lists(st.sampled_from(GENTLE_BODIES), max_size=14),
    st.lists(st.sampled_from(GENTLE_FAULTS), max_size=14),
)
ROUGH = st.tuples(
    st.lists(st.sampled_from(BODIES), max_size=14), st.lists(st.sampled_from(FAULTS), max_size=14)
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    count=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 12), max_size=6),
    size=st.integers(1, 8),
    happening=st.one_of(GENTLE, ROUGH),
    duplicates=st.booleans(),
    main_lives=st.booleans(),
)
def test_each_job_settles_once_and_no_attempt_starts_twice(
    queue: Database,
    count: int,
    sizes: list[int],
    size: int,
    happening: tuple[list[str], list[str]],
    duplicates: bool,
    main_lives: bool,
) -> None:
    bodies, faults = happening
    world = World(queue, size, bodies, faults)
    try:
        run_world(world, count, sizes, duplicates=duplicates, main_lives=main_lives)
        ends = world.connection.execute(
            "select id, count(*) filter (where outcome = 'done'), count(*), count(distinct attempt) "
            "from pgreact.history group by id"
        ).fetchall()
        for job, done, settlements, attempts in ends:
            assert settlements == attempts, f"an attempt of job {job} is settled twice"
            assert done == 1 or (done == 0 and job in world.cancelled)
        assert len({row[0] for row in ends if row[1]} | world.cancelled) == count
        dead = {row[0] for row in world.connection.execute("select id from pgreact.dead").fetchall()}
        assert dead <= world.cancelled
        if not {"exit", "killed", "after", "kill before", "kill after"} & {*bodies, *faults}:
            # what did not run went back without an attempt spent
            lost = "select count(*) from pgreact.history where outcome = 'lost'"
            assert world.value(lost) == 0
    finally:
        world.close()
