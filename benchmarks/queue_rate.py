"""Jobs a second, from the first enqueue to the last settlement, and their CPU time."""

import contextlib
import dataclasses
import random
import statistics
import time
from collections.abc import Mapping

import psutil
import redis

from benchmarks.marks import Marks
from benchmarks.queue_sides import CONCURRENCY, Pgreact, Side
from benchmarks.report import Report, median_and_spread
from pgreact.errors import PgreactError

DEADLINE = 120.0
NAMES = {
    "delay": "raw Celery, delay()",
    "pgreact": "pgreact, bundles",
    "single": "pgreact, bundle = 1",
    "procrastinate": "Procrastinate",
    "pgqueuer": "PgQueuer",
}
BARS = (("pgreact", "delay", 6), ("pgreact", "pgqueuer", 1), ("single", "procrastinate", 1.05))
WARM_UP = 20  # jobs of each side
PLACES = ("PostgreSQL", "daemon", "worker", "producer", "broker")


@dataclasses.dataclass(frozen=True)
class Run:
    """One round of one side."""

    jobs: int
    seconds: float
    cpu: Mapping[str, float]  # seconds, by part of the system

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds


class Meter:
    """The CPU time of each part of the system."""

    def __init__(self, side: Side, broker: str) -> None:
        """Take the parts of one side.

        Args:
            side: The side, whose processes count with their children; this process is the producer.
            broker: Redis' URL.
        """
        self._roots = {**side.processes, "PostgreSQL": _postmaster(side), "producer": psutil.Process()}
        self._redis = redis.Redis.from_url(broker)
        self._begin = self._read()

    def spent(self) -> dict[str, float]:
        """Return the CPU seconds since the creation, by part."""
        now = self._read()
        return {place: now[place] - before for place, before in self._begin.items()}

    def _read(self) -> dict[str, float]:
        found = {
            place: cpu_seconds(process, family=place != "producer") for place, process in self._roots.items()
        }
        times = self._redis.info("cpu")
        return {**found, "broker": float(times["used_cpu_user"]) + float(times["used_cpu_sys"])}


def warm_up(sides: Mapping[str, Side], marks: Marks, broker: str) -> None:
    """Run some jobs of each side, and more of pgreact's until it has measured that they are short.

    Args:
        sides: The sides by name.
        marks: The marks of ended tasks.
        broker: Redis' URL.

    Raises:
        PgreactError: They do not end in time, or are not measured.
    """
    deadline = time.monotonic() + DEADLINE
    for name, side in sides.items():
        run_noops(side, marks, broker, WARM_UP)
        while isinstance(side, Pgreact) and not side.is_short():
            if time.monotonic() > deadline:
                raise PgreactError(f"{NAMES.get(name, name)}: its runs were not measured to be short")
            run_noops(side, marks, broker, WARM_UP)


def measure(
    sides: Mapping[str, Side], marks: Marks, broker: str, *, rounds: int, jobs: Mapping[str, int]
) -> list[dict[str, Run]]:
    """Run the jobs of every side in each round.

    Args:
        sides: The sides by name, with idle workers.
        marks: The marks of ended tasks.
        broker: Redis' URL, for its CPU time.
        rounds: The number of rounds.
        jobs: The number of jobs of each side, enough for some seconds.
    """
    found = []
    for _ in range(rounds):
        this = {
            name: run_noops(sides[name], marks, broker, jobs[name])
            for name in random.sample(list(sides), len(sides))
        }
        found.append({name: this[name] for name in sides})
    return found


def print_rates(report: Report, found: list[dict[str, Run]]) -> None:
    """Print the rates, and check their bars."""
    names = list(found[0])
    report.table(
        f"no-op jobs, {CONCURRENCY} at a time",
        ["jobs/s", "least", "most", "by raw Celery"],
        [
            (
                NAMES[name],
                [
                    *(f"{rate:,.0f}" for rate in median_and_spread([this[name].rate for this in found])),
                    f"{statistics.median(_ratios(found, name, 'delay')):.2f}",
                ],
            )
            for name in names
        ],
    )
    report.table(
        "CPU seconds of 1000 jobs",
        [*PLACES, "all"],
        [(NAMES[name], _cells([this[name] for this in found])) for name in names],
    )
    for side, other, limit in BARS:
        what = f"jobs/s of {NAMES[side]} / {NAMES[other]}"
        report.bar_of_rounds(what, _ratios(found, side, other), limit, least=True)


def _ratios(found: list[dict[str, Run]], side: str, other: str) -> list[float]:
    return [this[side].rate / this[other].rate for this in found]


def _cells(runs: list[Run]) -> list[str]:
    places = [statistics.median(run.cpu.get(place, 0) / run.jobs * 1000 for run in runs) for place in PLACES]
    return [f"{seconds:.2f}" if seconds else "" for seconds in (*places, sum(places))]


def run_noops(side: Side, marks: Marks, broker: str, jobs: int) -> Run:
    """Run jobs that do nothing."""
    meter = Meter(side, broker)
    before, _ = marks.ended()
    began = time.monotonic()
    side.noops(jobs)
    deadline = time.monotonic() + DEADLINE
    while marks.ended()[0] < before + jobs:
        _pause(deadline, jobs)
    ended = marks.ended()[1]
    if side.settles:
        while not side.settled():
            _pause(deadline, jobs)
        ended = time.monotonic()
    return Run(jobs, ended - began, meter.spent())


def _pause(deadline: float, jobs: int) -> None:
    if time.monotonic() > deadline:
        raise PgreactError(f"{jobs} jobs took more than {DEADLINE:g} s")
    time.sleep(0.01)


def _postmaster(side: Side) -> psutil.Process:
    backend = psutil.Process(side.connection.info.backend_pid)
    parent = backend.parent()
    assert parent is not None
    return parent


def cpu_seconds(process: psutil.Process, *, family: bool) -> float:
    """Return the CPU seconds of a process and of its children, dead ones included."""
    alive = 0.0
    for child in process.children() if family else []:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended: its parent has its time
            alive += cpu_seconds(child, family=True)
    times = process.cpu_times()
    gone = times.children_user + times.children_system if family else 0.0
    return float(times.user + times.system + gone + alive)
