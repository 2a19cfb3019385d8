"""What one leader, one PostgreSQL and some worker machines carry, by a simulation with measured constants."""

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

from benchmarks.report import Report, percentile
from benchmarks.scale_model import PASS, Cluster, Cost, Costs, Load, Model, Result

# ---- the constants -----------------------------------------------------------------------------------------

US = 1e-6


@dataclasses.dataclass(frozen=True)
class Constant:
    """CPU time, in microseconds."""

    what: str
    us: float
    bench: str


CONSTANTS: Mapping[str, Constant] = {
    # PostgreSQL
    "enqueue": Constant("PostgreSQL: enqueue, each job of a list", 11, "enqueue"),
    "enqueue_one": Constant("PostgreSQL: enqueue of one job", 44, "enqueue"),
    "claim": Constant("PostgreSQL: a claim", 1100, "scale --measure"),
    "claim_job": Constant("PostgreSQL: a claim, each job that it takes", 24, "scale --measure"),
    "claim_in_progress": Constant("PostgreSQL: a claim, each job in progress", 0.5, "scale --measure"),
    "dispatch_postgres": Constant("PostgreSQL: a dispatch of a route", 13, "scale --measure"),
    "fire_postgres": Constant("PostgreSQL: a schedule that fires", 41, "scale --measure"),
    # the daemon
    "dispatch": Constant("daemon: a dispatch of a route", 1070, "scale --measure"),
    "fire": Constant("daemon: a schedule that fires", 35, "scale --measure"),
    # the user's dispatch task
    "send": Constant("dispatch task: send of a message", 560, "scale --measure"),
}

# Jobs that do nothing, of the bench "queue", on one machine of 2 cores that all parts share.
# "scale --measure" tells the share of the worker's main process, and the jobs of a message.


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of jobs there: what a job costs, in microseconds, and how fast they were.

    Attributes:
        main: The worker's main process.
        child: The process of the worker that runs it.
        daemon: The daemon.
        postgres: PostgreSQL, with the enqueue and without the claims.
        claims: PostgreSQL's session for the leader's claims.
        broker: Redis.
        producer: The process that enqueues.
        message: Jobs of a message.
        burst: Jobs that were enqueued at once.
        rates: Jobs a second of its runs, the least and the most.
    """

    main: float
    child: float
    daemon: float
    postgres: float
    claims: float
    broker: float
    producer: float
    message: float
    burst: int
    rates: tuple[float, float]

    @property
    def rate(self) -> float:
        """The middle of the rates."""
        return math.sqrt(self.rates[0] * self.rates[1])


CORES = 2
PLAIN = Kind(845, 255, 0, 0, 0, 150, 560, 1, 2500, (800, 1079))
ALONE = Kind(920, 664, 292, 535, 49, 150, 20, 1, 2500, (610, 800))
BUNDLED = Kind(121, 135, 41, 110, 26, 16, 16, 13, 20_000, (3700, 9000))
KINDS = {"alone": "alone in their messages", "bundles": "in bundles"}
MEASURED = {"alone": ALONE, "bundles": BUNDLED}
NETWORK = 200 * US  # an assumption: there and back between two machines


def _costs() -> Costs:
    value = {name: constant.us * US for name, constant in CONSTANTS.items()}
    parts = [field.name for field in dataclasses.fields(Cost)]
    plain = {part: getattr(PLAIN, part) * US for part in parts}
    alone = {part: getattr(ALONE, part) * US for part in parts}
    alone["postgres"] -= value["enqueue"]
    bundled = {part: getattr(BUNDLED, part) * US for part in parts}
    bundled["postgres"] -= value["enqueue"]
    # A bundle costs its message as much as a job that is alone in its message. Nothing is taken off in the
    # leader, which saturates: there a job alone costs more than its message.
    rest = {part: max(0.0, bundled[part] - alone[part] / BUNDLED.message) for part in parts}
    rest["daemon"] = bundled["daemon"]
    return Costs(**value, message=Cost(**alone), job=Cost(**rest), plain=Cost(**plain), network=NETWORK)


COSTS = _costs()

# ---- the runs ----------------------------------------------------------------------------------------------

LOADS = ("alone", "bundles", "routes", "schedules")
MACHINES = (1, 2, 4, 8, 16, 32, 64)
BUSY = 0.7  # of the jobs a second that the cluster can do: the load at which latency is computed
WARM_UP, SECONDS = 0.3, 0.5  # of simulated time
TOLERANCE = 1.25  # of the simulation of one machine by the measurement
PARTS = {
    "leader": "leader",
    "firing": "leader, which fires",
    "postgres": "PostgreSQL",
    "worker": "workers",
    "main": "main processes of the workers",
    "dispatch": "dispatch task",
    "broker": "broker",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What some worker machines do, at their limit and at a part of it."""

    machines: int
    most: Result
    p50: float
    p95: float

    @property
    def first(self) -> str:
        """The part that is busiest, and so saturates first."""
        return max(PARTS, key=lambda part: getattr(self.most, part))


@functools.cache
def row(kind: str, machines: int) -> Row:
    """Simulate some worker machines.

    Args:
        kind: Of the load.
        machines: The number of worker machines.
    """
    cluster = Cluster(machines)
    most = Model(COSTS, cluster, Load(kind)).run(WARM_UP, SECONDS)
    less = Model(COSTS, cluster, Load(kind, BUSY * most.rate)).run(WARM_UP, SECONDS)
    return Row(machines, most, percentile(less.waits, 50), percentile(less.waits, 95))


@functools.cache
def one_machine(kind: str) -> float:
    """Simulate the machine of the bench ``queue``: a burst, all parts on its cores; return the jobs a second.

    Args:
        kind: ``alone`` or ``bundles``.
    """
    measured = MEASURED[kind]
    costs = dataclasses.replace(COSTS, enqueue=COSTS.enqueue + measured.producer * US, network=0.0)
    cluster = Cluster(1, processes=4, shared=CORES)
    return Model(costs, cluster, Load(kind, burst=measured.burst)).run_burst()


# ---- the tables of docs/scale.md ---------------------------------------------------------------------------


def tables() -> dict[str, str]:
    """Return the tables of ``docs/scale.md`` by name, as Markdown."""
    return {
        "costs": _markdown(*costs_table()),
        "constants": _markdown(*constants_table()),
        "core": _markdown(*core_table()),
        **{kind: _markdown(*machines_table(kind)) for kind in LOADS},
        "validation": _markdown(*validation_table()),
    }


Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def costs_table() -> Table:
    """Return the CPU time of a job, by kind and part."""
    kinds = {"plain Celery": PLAIN, "alone in its message": ALONE, "in a bundle": BUNDLED}
    parts: Mapping[str, Callable[[Kind], float]] = {
        "worker, main process": lambda kind: kind.main,
        "worker, process that runs it": lambda kind: kind.child,
        "PostgreSQL": lambda kind: kind.postgres + kind.claims,
        "daemon": lambda kind: kind.daemon,
        "broker": lambda kind: kind.broker,
    }
    rows = [[what, *(f"{of(kind):,.0f}" for kind in kinds.values())] for what, of in parts.items()]
    return ["CPU µs a job", *kinds], rows


def constants_table() -> Table:
    """Return the other constants."""
    rows = [[constant.what, f"{constant.us:,.4g}", f"`{constant.bench}`"] for constant in CONSTANTS.values()]
    return ["CPU", "µs", "bench"], rows


def core_table() -> Table:
    """Return what each part carries if nothing else holds it up: by division, without a simulation."""
    alone, bundled = _publish_seconds(100, ALONE), _publish_seconds(500, BUNDLED)
    fire = COSTS.fire + COSTS.fire_postgres + COSTS.network / PASS
    carried: dict[str, list[float]] = {
        "the leader": [
            100 / alone,
            500 / bundled,
            1 / (COSTS.dispatch + COSTS.dispatch_postgres + COSTS.network),
            1 / fire,
        ],
        "a core of PostgreSQL": [
            *_per_second("postgres", "claims"),
            1 / COSTS.dispatch_postgres,
            1 / COSTS.fire_postgres,
        ],
        "a core of the workers": _per_second("main", "child"),
        "one `celery worker` (its main process)": _per_second("main"),
        "a Redis": _per_second("broker"),
    }
    columns = ["a second", "jobs alone", "jobs in bundles", "dispatches of routes", "schedules that fire"]
    rows = []
    for what, values in carried.items():
        cells = [rounded(value) for value in values]
        rows.append([what, *cells, *[""] * (len(columns) - 1 - len(cells))])
    return columns, rows


def _publish_seconds(jobs: int, kind: Kind) -> float:
    """Return the seconds that the leader takes for a claim and its messages."""
    return COSTS.claim + jobs * (COSTS.claim_job + kind.daemon * US) + 2 * COSTS.network


def _per_second(*parts: str) -> list[float]:
    """Return the jobs a second, alone and in bundles, that take a core's whole time in these parts."""
    return [1 / sum(getattr(kind, part) * US for part in parts) for kind in MEASURED.values()]


def machines_table(kind: str) -> Table:
    """Return what each number of worker machines does.

    Args:
        kind: Of the load.
    """
    rows = [_cells(row(kind, machines)) for machines in MACHINES]
    what = "occurrences/s" if kind == "schedules" else "jobs/s"
    return [
        "machines", what, "leader", "PostgreSQL", "workers", "saturates first", "p50", "p95 at 70 %",
    ], rows  # fmt: skip


def _cells(row: Row) -> list[str]:
    most = row.most
    leader = max(most.leader, most.firing)
    shares = [f"{min(1.0, share):.0%}".replace("%", " %") for share in (leader, most.postgres, most.worker)]
    waits = [f"{rounded(wait * 1000)} ms" for wait in (row.p50, row.p95)]
    return [str(row.machines), rounded(most.rate), *shares, PARTS[row.first], *waits]


def validation_table() -> Table:
    """Return what was measured on one machine beside what the simulation computes for it."""
    rows = []
    for kind, name in KINDS.items():
        measured, computed = MEASURED[kind], one_machine(kind)
        rates = " to ".join(rounded(rate) for rate in measured.rates)
        ratio = f"{computed / measured.rate:.2f}"
        rows.append([f"{name}, {measured.burst:,} at once", rates, rounded(computed), ratio])
    return [f"jobs/s on {CORES} cores", "measured", "computed", "computed / middle of measured"], rows


def rounded(value: float) -> str:
    """Return a number with two digits that count."""
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return (
        "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        .replace("| --- |", "|---|")
        .replace(" --- |", "---|")
    )


# ---- the bench ---------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the option of the bench."""
    parser.add_argument("--measure", action="store_true", help="measure the constants on this machine, too")


def run(report: Report, *, quick: bool, measure: bool) -> None:
    """Simulate, and print the results."""
    titles = {
        "costs": "CPU of a job that does nothing",
        "core": "jobs/s of each part alone",
    }
    _print(report, titles["costs"], costs_table())
    _print(report, titles["core"], core_table())
    for kind in LOADS:
        _print(report, kind, machines_table(kind))
    _print(report, "validation", validation_table())
    for kind, name in KINDS.items():
        what, ratio = f"{name}: computed / measured jobs/s", one_machine(kind) / MEASURED[kind].rate
        report.bar(what, ratio, TOLERANCE)
        report.bar(what, ratio, 1 / TOLERANCE, least=True)
    if measure:
        from benchmarks import scale_measure

        scale_measure.print_all(report, scale_measure.measure(quick=quick))


def _print(report: Report, title: str, table: Table) -> None:
    columns, rows = table
    report.table(title, columns[1:], [(cells[0], cells[1:]) for cells in rows])
