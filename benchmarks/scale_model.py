"""A discrete-event simulation of one leader, one PostgreSQL, one broker and some worker machines.

Each actor is a generator. What it yields tells what it waits for:

================  ==========================================================
a number          so many seconds
``(cores, s)``    ``s`` seconds of CPU time on one of these cores
a ``Store``       the next item of it; the generator is resumed with the item
================  ==========================================================

The leader follows ``pgreact/queue/claim.py``, ``claim_delay.py`` and step 11 of ``sql/functions/claim.sql``.
"""

import dataclasses
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from pgreact.queue.claim import BATCH, LARGE_BATCH
from pgreact.queue.claim_delay import claim_delay

Actor = Generator[Any, Any, None]

WAITS = 0.01  # seconds since its publish after which an unstarted message counts as waiting for a worker
SHORTEST = 0.0002  # seconds that a run of a short job counts for at least
MESSAGE = 0.02  # seconds that the jobs of a message last at most
LARGEST = 100  # jobs of a message
AT_ONCE = 32  # jobs of a claim that share messages though no message waits for a worker
FEW = 16  # messages for these
MAX_UNSTARTED = 200  # messages of a lane, by default
MANY = 5  # times as many jobs, where they may share messages
PREFETCH = 4  # messages for each process that a worker takes from the broker in advance, Celery's default
GROUP = 20  # messages that the daemon sends together
WINDOW = 0.005  # seconds, of the queue's route
PASS = 1000  # schedules that are fired by one statement
LIST = 1000  # jobs of a burst that are enqueued by a statement
STEP = 0.01  # seconds at which a burst is looked at
PAUSE = 0.005  # seconds between two passes over the schedules


class Cores:
    """Some cores; who finds none free waits in order."""

    def __init__(self, simulation: "Simulation", count: int) -> None:
        self.count = count
        self.used = 0.0  # seconds
        self._simulation = simulation
        self._free = count
        self._waiting: deque[tuple[Actor, float]] = deque()

    def use(self, actor: Actor, seconds: float) -> None:
        """Let an actor compute as soon as a core is free."""
        if self._free:
            self._free -= 1
            self._begin(actor, seconds)
        else:
            self._waiting.append((actor, seconds))

    def _begin(self, actor: Actor, seconds: float) -> None:
        took = seconds * self._simulation.random.uniform(0.5, 1.5)
        self.used += took
        self._simulation.after(took, self._end, actor)

    def _end(self, actor: Actor) -> None:
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            self._free += 1
        self._simulation.resume(actor, None)


class Store:
    """Items, and the actors that wait for one."""

    def __init__(self, simulation: "Simulation") -> None:
        self.items: deque[Any] = deque()
        self._simulation = simulation
        self._waiting: deque[Actor] = deque()

    def put(self, item: Any) -> None:
        """Give an item to the actor that waits longest, or keep it."""
        if self._waiting:
            self._simulation.after(
                0.0, lambda actor: self._simulation.resume(actor, item), self._waiting.popleft()
            )
        else:
            self.items.append(item)

    def take(self, actor: Actor) -> None:
        """Resume an actor with the next item."""
        if self.items:
            self._simulation.resume(actor, self.items.popleft())
        else:
            self._waiting.append(actor)


class Simulation:
    """Virtual time, and what happens when."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._number = 0

    def after(self, seconds: float, call: Callable[[Any], None], argument: Any) -> None:
        """Call a function later."""
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, call, argument))

    def start(self, actor: Actor) -> None:
        """Let an actor begin."""
        self.resume(actor, None)

    def resume(self, actor: Actor, value: Any) -> None:
        """Let an actor go on until it waits again."""
        try:
            wanted = actor.send(value)
        except StopIteration:
            return
        if isinstance(wanted, tuple):
            wanted[0].use(actor, wanted[1])
        elif isinstance(wanted, Store):
            wanted.take(actor)
        else:
            self.after(wanted, self._resume, actor)

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call, argument = heapq.heappop(self._events)
            call(argument)
        self.now = until

    def _resume(self, actor: Actor) -> None:
        self.resume(actor, None)


@dataclasses.dataclass(frozen=True)
class Cost:
    """CPU seconds of a message, and of each job in it beyond what the message costs.

    Attributes:
        main: In the worker's main process.
        child: In the worker's process that runs it.
        daemon: In the leader.
        broker: In the broker.
        postgres: In the statements of the worker.
    """

    main: float = 0.0
    child: float = 0.0
    daemon: float = 0.0
    broker: float = 0.0
    postgres: float = 0.0


@dataclasses.dataclass(frozen=True)
class Costs:
    """All CPU seconds of the model.

    Attributes:
        enqueue: PostgreSQL, for a job of a list.
        enqueue_one: PostgreSQL, for a job in a statement of its own.
        claim: PostgreSQL, for a claim.
        claim_job: For each job that it takes.
        claim_in_progress: For each job that is in progress already.
        message: Of a message.
        job: Of each job of a bundle, in addition.
        plain: Of a message of plain Celery.
        send: The user's dispatch task, for each message that it sends.
        dispatch: The daemon, for a dispatch of a plain route.
        dispatch_postgres: PostgreSQL, likewise.
        fire: The daemon, for a schedule that is due.
        fire_postgres: PostgreSQL, likewise.
        network: Seconds from one machine to another and back.
    """

    enqueue: float
    enqueue_one: float
    claim: float
    claim_job: float
    claim_in_progress: float
    message: Cost
    job: Cost
    plain: Cost
    send: float
    dispatch: float
    dispatch_postgres: float
    fire: float
    fire_postgres: float
    network: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines.

    Attributes:
        workers: Worker machines, each with one ``celery worker``.
        processes: Of each worker.
        worker_cores: Of each worker machine.
        postgres_cores: Of PostgreSQL's machine.
        shared: Cores of the one machine that all parts share instead; 0: each has its own.
        max_unstarted: Of the lane.
    """

    workers: int
    processes: int = 8
    worker_cores: int = 4
    postgres_cores: int = 8
    shared: int = 0
    max_unstarted: int = MAX_UNSTARTED


@dataclasses.dataclass(frozen=True)
class Load:
    """What the cluster is to do.

    Attributes:
        kind: ``alone``: jobs with a message each; ``bundles``; ``routes``: rows of the user's own table, for
            each of which a dispatch task sends a plain Celery message; ``schedules``, whose jobs may share
            messages.
        rate: Jobs a second, committed one by one at random; ``None``: there are always more.
        burst: So many jobs instead, enqueued by statements of a thousand.
    """

    kind: str
    rate: float | None = None
    burst: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """What the cluster did.

    Attributes:
        rate: Jobs a second.
        leader: Share of the time in which the leader claimed and published.
        firing: Likewise, in which it fired schedules.
        postgres: Share of the cores.
        worker: Share of the cores of the worker machines.
        main: Share of the time in which a worker's main process was busy.
        dispatch: Likewise the user's dispatch task.
        broker: Likewise the broker.
        message: Jobs of a message.
        waits: Seconds from the commit until the job's body began, sorted.
    """

    rate: float
    leader: float
    firing: float
    postgres: float
    worker: float
    main: float
    dispatch: float
    broker: float
    message: float
    waits: list[float]


class _Job:
    """A job, from its commit."""

    __slots__ = ("committed",)

    def __init__(self, committed: float) -> None:
        self.committed = committed


@dataclasses.dataclass
class _Message:
    jobs: list[_Job]
    plain: bool = False
    published: float = 0.0


class Model:
    """One run of a cluster under a load."""

    def __init__(self, costs: Costs, cluster: Cluster, load: Load, seed: int = 1) -> None:
        self.costs, self.cluster, self.load = costs, cluster, load
        self.simulation = simulation = Simulation(seed)
        if cluster.shared:
            shared = Cores(simulation, cluster.shared)
            self.postgres = self.daemon = self.broker = shared
            self.machines = [shared] * cluster.workers
        else:
            self.postgres = Cores(simulation, cluster.postgres_cores)
            self.daemon, self.broker = Cores(simulation, 1), Cores(simulation, 1)
            self.machines = [Cores(simulation, cluster.worker_cores) for _ in range(cluster.workers)]
        self.ready: deque[_Job] = deque()
        self.due: deque[_Job] = deque()  # occurrences of schedules
        self.wake, self.tick = Store(simulation), Store(simulation)
        self.messages = Store(simulation)
        self.unstarted: deque[_Message] = (
            deque()
        )  # oldest first; started ones are dropped when they are first
        self.started: set[int] = set()
        self.waiting = 0  # jobs that are not started
        self.in_progress = 0  # jobs
        self.busy = 0  # worker processes that run a message
        self.batch = BATCH
        self.settled = self.sent = self.sent_jobs = 0
        self.busy_leader = self.busy_firing = self.busy_main = 0.0
        self.busy_dispatch = self.busy_broker = 0.0
        self.waits: list[float] = []
        self.endless = load.rate is None and not load.burst
        self._endless_queue = self.endless and load.kind != "schedules"
        self.room = cluster.max_unstarted * (1 if load.kind == "alone" else MANY)  # jobs

    def run(self, warm_up: float, seconds: float) -> Result:
        """Run, and measure after the warm-up."""
        simulation = self.simulation
        for machine in self.machines:
            simulation.start(self._worker(machine))
        if self.load.rate is not None:
            simulation.start(self._writers(self.load.rate))
        if self.load.kind == "routes":
            simulation.start(self._dispatcher())
        else:
            simulation.start(self._leader())
        if self.load.kind == "schedules":
            simulation.start(self._timetable())
        simulation.run(warm_up)
        before = self._counters()
        self.waits.clear()
        simulation.run(warm_up + seconds)
        settled, leader, firing, postgres, worker, main, dispatch, broker, sent, jobs = (
            now - then for now, then in zip(self._counters(), before, strict=True)
        )
        cluster = self.cluster
        cores = cluster.workers * (cluster.shared or cluster.worker_cores)
        return Result(
            rate=settled / seconds,
            leader=leader / seconds,
            firing=firing / seconds,
            postgres=postgres / seconds / self.postgres.count,
            worker=worker / seconds / cores,
            main=main / seconds / cluster.workers,
            dispatch=dispatch / seconds,
            broker=broker / seconds,
            message=jobs / sent if sent else 0.0,
            waits=sorted(self.waits),
        )

    def run_burst(self) -> float:
        """Run until all jobs of a burst are settled; return the jobs a second from its begin."""
        simulation = self.simulation
        for machine in self.machines:
            simulation.start(self._worker(machine))
        simulation.start(self._leader())
        simulation.start(self._burst(self.load.burst))
        while self.settled < self.load.burst:
            simulation.run(simulation.now + STEP)
        return self.load.burst / simulation.now

    def _counters(self) -> tuple[float, ...]:
        worker = sum(machine.used for machine in self.machines)
        return (
            *(self.settled, self.busy_leader, self.busy_firing, self.postgres.used, worker, self.busy_main),
            *(self.busy_dispatch, self.busy_broker, self.sent, self.sent_jobs),
        )

    # ---- the users' side -----------------------------------------------------------------------------------

    def _writers(self, rate: float) -> Actor:
        while True:
            # whole nanoseconds, since the last bits of a logarithm differ from machine to machine
            yield round(-math.log(1.0 - self.simulation.random.random()) / rate, 9)
            self.simulation.start(self._commit())

    def _commit(self) -> Actor:
        if self.load.kind == "schedules":
            self.due.append(_Job(self.simulation.now))
            self._notify(self.tick)
            return
        yield self.postgres, self.costs.enqueue_one
        self.ready.append(_Job(self.simulation.now))
        self._notify(self.wake)

    def _burst(self, jobs: int) -> Actor:
        while jobs > 0:
            count = min(jobs, LIST)
            yield self.postgres, count * self.costs.enqueue
            self.ready.extend(_Job(self.simulation.now) for _ in range(count))
            self._notify(self.wake)
            jobs -= count

    def _notify(self, store: Store) -> None:
        if not store.items:
            store.put(True)

    def _more(self, count: int) -> Actor:
        """Enqueue as many jobs as were taken, where there are always more."""
        yield self.postgres, count * self.costs.enqueue

    # ---- the leader ----------------------------------------------------------------------------------------

    def _leader(self) -> Actor:
        """Claim and publish, again and again, at most once in a window."""
        simulation = self.simulation
        began, full_at = -WINDOW, None
        while True:
            if not (self._endless_queue or self.ready):
                yield self.wake
            yield max(0.0, began + WINDOW - simulation.now)
            before, began = began, simulation.now
            room = max(0, self.room - self.waiting)
            messages = yield from self._claim(min(self.batch, room))
            yield from self._publish(messages)
            count = sum(len(message.jobs) for message in messages)
            if 0 < room <= count:
                if full_at is not None:
                    yield claim_delay(self.waiting, count, began - before, None)
                full_at = began
            else:
                full_at = None

    def _claim(self, most: int) -> Generator[Any, Any, list[_Message]]:
        """Take waiting jobs, and divide them into messages."""
        costs, began = self.costs, self.simulation.now
        count = most if self._endless_queue else min(most, len(self.ready))
        size = self._size(count)
        if size < 2:
            # those that travel alone find room by their messages
            count = max(0, min(count, self.cluster.max_unstarted - self.waiting))
        yield (
            self.postgres,
            costs.claim + count * costs.claim_job + self.in_progress * costs.claim_in_progress,
        )
        yield costs.network
        self.busy_leader += self.simulation.now - began
        if self._endless_queue:
            jobs = [_Job(self.simulation.now) for _ in range(count)]
            self.simulation.start(self._more(count))
        else:
            jobs = [self.ready.popleft() for _ in range(count)]
        self.waiting += count
        self.in_progress += count
        self.batch = LARGE_BATCH if size > 1 else BATCH
        return [_Message(jobs[start : start + size]) for start in range(0, count, size)]

    def _publish(self, messages: list[_Message]) -> Actor:
        costs, simulation = self.costs, self.simulation
        for start in range(0, len(messages), GROUP):
            began = simulation.now
            group = messages[start : start + GROUP]
            bundled = sum(len(message.jobs) for message in group if len(message.jobs) > 1)
            yield self.daemon, len(group) * costs.message.daemon + bundled * costs.job.daemon
            yield from self._to_broker(group, bundled)
            self.busy_leader += simulation.now - began

    def _size(self, count: int) -> int:
        """Return how many jobs share a message, by the claim's own rule."""
        while self.unstarted and id(self.unstarted[0]) in self.started:
            self.started.discard(id(self.unstarted.popleft()))
        if self.load.kind == "alone":
            return 1
        if self.unstarted and self.unstarted[0].published < self.simulation.now - WAITS:
            # a run of an empty body counts for the shortest time
            each = (count + self.waiting) / (2 * max(self.busy, 1))
            size = min(MESSAGE / SHORTEST, math.ceil(count / 4), each)
        else:
            size = math.ceil(count / FEW) if count >= AT_ONCE else 1
        return max(1, round(min(LARGEST, size)))

    def _to_broker(self, group: list[_Message], bundled: int) -> Actor:
        """Let the broker have messages, which then wait for a worker."""
        cost = self.costs.plain if group[0].plain else self.costs.message
        yield self.broker, len(group) * cost.broker + bundled * self.costs.job.broker
        self.busy_broker += len(group) * cost.broker + bundled * self.costs.job.broker
        yield self.costs.network
        for message in group:
            message.published = self.simulation.now
            if not message.plain:
                self.unstarted.append(message)
            self.sent += 1
            self.sent_jobs += len(message.jobs)
            self.messages.put(message)

    def _timetable(self) -> Actor:
        """Fire what is due."""
        while True:
            if not (self.endless or self.due):
                yield self.tick
            if self.endless and len(self.ready) > 2 * LARGE_BATCH:
                yield PAUSE  # more is due than the leader can publish
                continue
            began = self.simulation.now
            jobs = [self.due.popleft() for _ in range(min(PASS, len(self.due)))]
            if self.endless:
                jobs = [_Job(self.simulation.now) for _ in range(LARGE_BATCH)]
            yield self.daemon, len(jobs) * self.costs.fire
            yield self.postgres, len(jobs) * self.costs.fire_postgres
            yield self.costs.network
            self.busy_firing += self.simulation.now - began
            self.ready.extend(jobs)
            self._notify(self.wake)
            yield PAUSE

    # ---- a route of the user's own tables ------------------------------------------------------------------

    def _dispatcher(self) -> Actor:
        """Call the user's dispatch task, at most once in a window; it sends a message for each row."""
        costs = self.costs
        while True:
            if not (self.endless or self.ready):
                yield self.wake
            began = self.simulation.now
            yield self.daemon, costs.dispatch
            yield self.postgres, costs.dispatch_postgres
            yield costs.network
            self.busy_leader += self.simulation.now - began
            done = Store(self.simulation)
            self.simulation.start(self._dispatch_task(done))
            yield done
            yield max(0.0, began + 0.1 - self.simulation.now)

    def _dispatch_task(self, done: Store) -> Actor:
        costs, simulation = self.costs, self.simulation
        yield self.machines[0], costs.plain.main
        yield self.machines[0], costs.plain.child
        if self.endless:
            jobs = [_Job(simulation.now) for _ in range(LARGE_BATCH)]
            yield from self._more(len(jobs))
        else:
            jobs = list(self.ready)
            self.ready.clear()
        for start in range(0, len(jobs), GROUP):
            began = simulation.now
            group = [_Message([job], plain=True) for job in jobs[start : start + GROUP]]
            yield self.machines[0], len(group) * costs.send
            yield from self._to_broker(group, 0)
            self.busy_dispatch += simulation.now - began
        done.put(True)

    # ---- workers -------------------------------------------------------------------------------------------

    def _worker(self, machine: Cores) -> Actor:
        """Take messages from the broker, and give them to the worker's processes: its main process."""
        simulation = self.simulation
        taken, given = Store(simulation), Store(simulation)
        for _ in range(self.cluster.processes):
            simulation.start(self._process(machine, taken, given))
        for _ in range(self.cluster.processes * (1 + PREFETCH)):
            given.put(True)
        while True:
            yield given
            message = yield self.messages
            began = simulation.now
            cost = self.costs.plain if message.plain else self.costs.message
            bundled = len(message.jobs) if len(message.jobs) > 1 else 0
            yield machine, cost.main + bundled * self.costs.job.main
            self.busy_main += simulation.now - began
            taken.put(message)

    def _process(self, machine: Cores, taken: Store, given: Store) -> Actor:
        costs = self.costs
        while True:
            message = yield taken
            count = len(message.jobs)
            self.busy += 1
            if message.plain:
                self._began(message.jobs)
                yield machine, costs.plain.child
            else:
                statements = 2 if count == 1 else 3
                bundled = count if count > 1 else 0
                child = (costs.message.child + bundled * costs.job.child) / statements
                postgres = (costs.message.postgres + bundled * costs.job.postgres) / statements
                yield self.postgres, postgres
                yield costs.network
                self.started.add(id(message))
                # of a bundle one job is begun first, and then the others
                parts = [message.jobs] if count == 1 else [message.jobs[:1], message.jobs[1:]]
                for part in parts:
                    self.waiting -= len(part)
                    self._began(part)
                    yield machine, child * (1 if count == 1 else 1.5)
                    if count == 1:
                        yield machine, child
                    yield self.postgres, postgres
                    yield costs.network
                self.in_progress -= count
                self._notify(self.wake)
            self.settled += count
            self.busy -= 1
            given.put(True)

    def _began(self, jobs: list[_Job]) -> None:
        self.waits += [self.simulation.now - job.committed for job in jobs]
