"""A whole cluster under load and faults: jobs lost, doubled or delayed."""

import argparse
import contextlib
import datetime
import math
import random
import statistics
import time

import psycopg

from benchmarks import soak_names as names
from benchmarks.report import Report, percentile
from benchmarks.soak_checks import Checks, Window, gather
from benchmarks.soak_cluster import Cluster
from benchmarks.soak_faults import Faults
from benchmarks.soak_load import WAKE_DEADLINE, Load
from pgreact.errors import PgreactError

SECONDS, QUICK_SECONDS = 900.0, 60.0
WARM_UP = 6.0  # seconds of load without faults, in which every process opens all its sessions
HOLDING, ENDING = (
    20.0,
    12.0,
)  # seconds of a window that only holds locks, and of one that also ends processes
WELL = 0.5  # seconds that a job of the calm lane may wait without a fault
# A message that was lost four times is sent again after sixteen leases.
QUIET = 20 * names.LEASE
EXAMPLES = 3

# bars
STALL = 2.0  # seconds that a lane may wait for transactions on other lanes
# After the last fault: a standby waits 5 s for the guard of a leader that was killed, reconnects within 5 s,
# and a message that was lost is sent again after a lease, or two.
RECOVERY = 10.0 + 2 * names.LEASE
MEMORY = 256.0  # MB: what deploy/kubernetes.yaml allows a daemon
GROWTH = 1.5  # median of the last third by that of the second


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the soak."""
    parser.add_argument("--seconds", type=float, help=f"seconds of faults (default {SECONDS:g})")
    parser.add_argument("--seed", type=int, help="seed of the random choices (default: a new one)")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument(
        "--without",
        default="",
        metavar="FAULTS",
        help="names of faults to leave out, separated by commas",
    )


def run(
    report: Report,
    *,
    quick: bool,
    seconds: float | None = None,
    seed: int | None = None,
    broker: str = "redis",
    without: str = "",
) -> None:
    """Run the soak, and print the results."""
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    seed = seed if seed is not None else random.SystemRandom().randrange(10**6)
    report.note(f"soak of {seconds:g} s, --seed {seed}, --broker {broker}")
    windows: list[Window] = []
    recoveries: list[float] = []
    with Cluster(broker) as cluster:
        if cluster.filler is None:
            report.note("without a full disk: that needs root, and the right to mount")
        left_out = {name.strip() for name in without.split(",") if name.strip()}
        with Load(cluster, seed) as load:
            faults = Faults(cluster, load, random.Random(seed), left_out)
            time.sleep(WARM_UP)
            first = _recover(cluster, load)
            if math.isinf(first):
                raise PgreactError(f"no job runs, before any fault:\n{cluster.output()}")
            sessions = _sessions(cluster)
            end = time.monotonic() + seconds
            ending = False
            while (left := end - time.monotonic()) > 0 and not load.over.is_set():
                windows.append(_window(load, faults, min(left, ENDING if ending else HOLDING), ending=ending))
                recoveries.append(_recover(cluster, load))
                _progress(report, cluster, windows[-1], recoveries[-1])
                if math.isinf(recoveries[-1]):
                    report.note(cluster.state())
                ending = not ending
            stopped = datetime.datetime.now(datetime.UTC)
            load.stop()
            for error in [*load.failures, *faults.errors]:
                raise error
        quiet = _be_quiet(cluster, stopped)
        sessions_after = _sessions(cluster)
        checks = Checks(cluster, load, faults, gather(cluster), windows)
        _report_faults(report, cluster, faults)
        _report_left(report, cluster)
        _report_figures(report, cluster, load, checks, stopped)
        report.note(
            f"quiet after {quiet:.0f} s; {load.refused} transactions of the load failed, and were repeated"
        )
        report.bar("longest recovery after faults, s", max(recoveries), RECOVERY)
        _report_resources(report, cluster, sessions, sessions_after)


def _window(load: Load, faults: Faults, seconds: float, *, ending: bool) -> Window:
    began = time.time()
    if ending:
        load.troubled.set()
        faults.impose_defaults()
    faults.during(seconds, ending=ending)
    load.troubled.clear()
    return Window(began, time.time(), ending)


def _recover(cluster: Cluster, load: Load) -> float:
    """Wait until a job of the calm lane starts at once; return the seconds, or infinity."""
    began = time.monotonic()
    load.troubled.set()  # the recovery is measured here alone
    try:
        while (passed := time.monotonic() - began) < 2 * RECOVERY and not load.over.is_set():
            since = time.time() - WELL
            fresh = {number: at for number, at in list(load.calm.items())[-50:] if at >= since}
            if len(fresh) > 2:
                ran = {n for (n,) in cluster.runs(f"select number from run where number >= {min(fresh)}")}
                if set(list(fresh)[:-2]) <= ran:  # the last two may not have started yet
                    return passed
            time.sleep(0.1)
        return math.inf
    finally:
        load.troubled.clear()


def _be_quiet(cluster: Cluster, stopped: datetime.datetime) -> float:
    """Wait until all jobs are settled; return the seconds."""
    began = time.monotonic()
    schedules = [*names.QUEUED_SCHEDULES, *names.DIRECT_SCHEDULES, names.BEAT_ENTRY]
    _until(
        cluster,
        "select count(*) filter (where last_nominal_at >= %s) = %s from pgreact.schedule",
        RECOVERY,
        stopped,
        len(schedules),
    )
    cluster.rows("update pgreact.schedule set enabled = false returning 1")
    _until(
        cluster,
        "select not exists (select from pgreact.queue) and not exists (select from pgreact.in_progress)",
        QUIET,
    )
    return time.monotonic() - began


def _until(cluster: Cluster, condition: str, deadline: float, *values: object) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with contextlib.suppress(psycopg.Error):
            if cluster.rows(condition, *values)[0][0]:
                return
        time.sleep(0.2)


def _sessions(cluster: Cluster) -> int:
    ((count,),) = cluster.rows(
        "select count(*) from pg_stat_activity where application_name like %s", "pgreact%"
    )
    return int(count)


def _progress(report: Report, cluster: Cluster, window: Window, recovery: float) -> None:
    kind = "things ended" if window.ending else "locks were held"
    report.note(
        f"{window.ended - window.began:4.0f} s {kind}, well again after {recovery:.1f} s; "
        f"{len(cluster.exits)} unexpected exits so far"
    )


def _report_faults(report: Report, cluster: Cluster, faults: Faults) -> None:
    report.table(
        "faults",
        ["done", "not possible", "since"],
        [
            (name, [str(done), str(not_done), why[:70]])
            for name, (done, not_done, why) in faults.tally().items()
        ],
    )
    report.table(
        "warnings and errors",
        ["times"],
        [(said, [str(n)]) for said, n in cluster.log.errors.most_common(25)] or [("none", ["0"])],
    )


def _report_left(report: Report, cluster: Cluster) -> None:
    left = cluster.rows(
        "select 'queue, ' || state, lane, count(*) from pgreact.queue group by 1, 2 "
        "union all "
        "select 'in_progress, ' || case when published_at is null then 'claimed' "
        "  when started_at is null then 'published' else 'started' end, lane, count(*) "
        "from pgreact.in_progress group by 1, 2 order by 1, 2"
    )
    if left:
        report.table(
            "left", ["jobs"], [(f"{state}, lane {lane}", [str(count)]) for state, lane, count in left]
        )


def _report_figures(
    report: Report, cluster: Cluster, load: Load, checks: Checks, stopped: datetime.datetime
) -> None:
    facts = checks.facts
    occurrences, missing, double = checks.occurrences(stopped)
    figures = {
        "jobs lost": checks.lost(),
        "jobs not settled after the quiet time": checks.left(),
        "jobs dead without a reason": checks.dead(),
        "runs of rolled-back jobs": checks.phantoms(),
        "attempts started twice": checks.started_twice(),
        "jobs done twice without a reason": checks.done_twice(),
        "attempts lost though their worker lived": checks.lost_in_vain(),
        "jobs done though cancelled": checks.ran_though_cancelled(),
        "jobs claimed before their time": checks.too_early(),
        "limits exceeded": checks.above_limits(),
        "orders of a key broken": checks.out_of_order(),
        "runs of one key beside each other": checks.keys_beside(),
        "rows whose changes are not one job each, in order": checks.outbox(),
        "occurrences missing": missing,
        "occurrences double": double,
        f"wake-ups lost: no dispatch in {WAKE_DEADLINE:g} s": checks.wakes_lost(),
        "flights beside each other, no session ended": checks.flights_beside(),
        "leaders that stepped down, no session ended": checks.leaders_lost(),
        "processes that ended by a fault of pgreact's": [str(end) for end in cluster.exits if end.ours],
    }
    for end in cluster.exits:
        if not end.ours:
            report.note(f"ended by Celery's own doing: {end.name}: {end.output.splitlines()[-1:]}")
    for what, found in figures.items():
        for example in found[:EXAMPLES]:
            report.note(f"{what}: {example}")
    report.table(
        "what went through",
        ["count"],
        [
            ("enqueues committed", [f"{len(facts.sent):,}"]),
            ("changes of the outbox's table", [f"{sum(facts.versions.values()):,}"]),
            ("attempts settled", [f"{len(facts.attempts):,}"]),
            ("runs", [f"{len(facts.runs):,}"]),
            ("occurrences", [f"{occurrences:,}"]),
            ("wake-ups waited for", [f"{len(load.wakes):,}"]),
            ("elections", [f"{cluster.log.counts['leader.elected']:,}"]),
        ],
    )
    for what, found in figures.items():
        report.bar(what, len(found), 0)
    stalls, wakes = list(checks.stalls().values()), checks.wake_delays()
    if stalls:
        report.table(
            "while locks were held, s",
            ["count", "p50", "p99", "max"],
            [
                (
                    name,
                    [
                        str(len(found)),
                        *(f"{percentile(found, percent):.3f}" for percent in (50, 99, 100)),
                    ],
                )
                for name, found in {
                    "enqueue to start, calm lane": stalls,
                    "commit to dispatch": wakes,
                }.items()
                if found
            ],
        )
        if max(stalls) > STALL:
            report.note(f"longest stall of the calm lane: {checks.longest_stall()}")
        report.bar("longest stall of the calm lane while locks were held, s", max(stalls), STALL)
    if wakes:
        report.bar("longest wait for a dispatch while locks were held, s", max(wakes), STALL)


def _report_resources(report: Report, cluster: Cluster, before: int, after: int) -> None:
    memory = [
        (sample.at, size / 1e6)
        for sample in cluster.samples
        for name, size in sample.memory.items()
        if name.startswith("daemon")
    ]
    third = len(memory) // 3
    if third:
        report.bar("memory of a daemon, MB", max(size for _, size in memory), MEMORY)
        middle = statistics.median(size for _, size in memory[third : 2 * third])
        last = statistics.median(size for _, size in memory[2 * third :])
        report.bar("memory of daemons: last third / second", last / middle, GROWTH)
    report.bar("sessions of pgreact at the end / before the faults", after / before, GROWTH)
