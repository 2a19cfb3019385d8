"""A whole cluster under load, while all kinds of things go wrong: what is lost, doubled or held up."""

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
from benchmarks.soak_faults import Faults
from benchmarks.soak_judge import Judge, Window, gather
from benchmarks.soak_load import WAKE_PATIENCE, Load
from benchmarks.soak_plant import Plant
from pgreact.errors import PgreactError

SECONDS, QUICK_SECONDS = 900.0, 60.0
WARM_UP = 6.0  # seconds of load alone: every process has used every kind of session by then
HOLDING, ENDING = (
    20.0,
    12.0,
)  # seconds of a window in which only locks are held, and of one in which things end
WELL = 0.5  # seconds a job of the calm lane may wait where nothing is wrong
# A message that was lost four times is sent again after sixteen leases.
QUIET = 20 * names.LEASE
EXAMPLES = 3

# bars
STALL = 2.0  # seconds a lane may wait for transactions that are none of its business
# After the last fault: a standby waits 5 s for the guard of a leader that was killed, reconnects within 5 s,
# and a message that was lost is sent again after a lease, or two.
RECOVERY = 10.0 + 2 * names.LEASE
MEMORY = 256.0  # MB: what deploy/kubernetes.yaml allows a daemon
GROWTH = 1.5  # median of the last third by that of the second


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the soak's own options."""
    parser.add_argument("--seconds", type=float, help=f"how long things go wrong (default {SECONDS:g})")
    parser.add_argument("--seed", type=int, help="of all chance (default: another each time)")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument(
        "--without",
        default="",
        metavar="FAULTS",
        help="names of faults that are left out, with commas between",
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
    """Soak, and print what it showed."""
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    seed = seed if seed is not None else random.SystemRandom().randrange(10**6)
    report.note(f"soak of {seconds:g} s, --seed {seed}, --broker {broker}")
    windows: list[Window] = []
    recoveries: list[float] = []
    with Plant(broker) as plant:
        if plant.filler is None:
            report.note("no full disk here: that needs root, and the right to mount")
        left_out = {name.strip() for name in without.split(",") if name.strip()}
        with Load(plant, seed) as load:
            faults = Faults(plant, load, random.Random(seed), left_out)
            time.sleep(WARM_UP)
            first = _recover(plant, load)
            if math.isinf(first):
                raise PgreactError(f"nothing runs, without a fault:\n{plant.last_words()}")
            sessions = _sessions(plant)
            end = time.monotonic() + seconds
            ending = False
            while (left := end - time.monotonic()) > 0 and not load.over.is_set():
                windows.append(_window(load, faults, min(left, ENDING if ending else HOLDING), ending=ending))
                recoveries.append(_recover(plant, load))
                _progress(report, plant, windows[-1], recoveries[-1])
                if math.isinf(recoveries[-1]):
                    report.note(plant.state())
                ending = not ending
            stopped = datetime.datetime.now(datetime.UTC)
            load.stop()
            for error in [*load.failures, *faults.errors]:
                raise error
        quiet = _be_quiet(plant, stopped)
        sessions_after = _sessions(plant)
        judge = Judge(plant, load, faults, gather(plant), windows)
        _report_faults(report, plant, faults)
        _report_left(report, plant)
        _report_figures(report, plant, load, judge, stopped)
        report.note(
            f"quiet after {quiet:.0f} s; {load.refused} transactions of the load failed, and were done anew"
        )
        report.bar("longest recovery after faults, s", max(recoveries), RECOVERY)
        _report_resources(report, plant, sessions, sessions_after)


def _window(load: Load, faults: Faults, seconds: float, *, ending: bool) -> Window:
    began = time.time()
    if ending:
        load.troubled.set()
        faults.impose_defaults()
    faults.during(seconds, ending=ending)
    load.troubled.clear()
    return Window(began, time.time(), ending)


def _recover(plant: Plant, load: Load) -> float:
    """Wait until a job of the calm lane starts at once; return after how many seconds, or infinity."""
    began = time.monotonic()
    load.troubled.set()  # what is late now is judged by this alone
    try:
        while (passed := time.monotonic() - began) < 2 * RECOVERY and not load.over.is_set():
            since = time.time() - WELL
            fresh = {number: at for number, at in list(load.calm.items())[-50:] if at >= since}
            if len(fresh) > 2:
                ran = {n for (n,) in plant.runs(f"select number from run where number >= {min(fresh)}")}
                if set(list(fresh)[:-2]) <= ran:  # the last two may be on their way
                    return passed
            time.sleep(0.1)
        return math.inf
    finally:
        load.troubled.clear()


def _be_quiet(plant: Plant, stopped: datetime.datetime) -> float:
    """Wait until everything is settled that will be; return after how many seconds."""
    began = time.monotonic()
    schedules = [*names.QUEUED_SCHEDULES, *names.DIRECT_SCHEDULES, names.BEAT_ENTRY]
    _until(
        plant,
        "select count(*) filter (where last_nominal_at >= %s) = %s from pgreact.schedule",
        RECOVERY,
        stopped,
        len(schedules),
    )
    plant.rows("update pgreact.schedule set enabled = false returning 1")
    _until(
        plant,
        "select not exists (select from pgreact.queue) and not exists (select from pgreact.in_progress)",
        QUIET,
    )
    return time.monotonic() - began


def _until(plant: Plant, condition: str, deadline: float, *values: object) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with contextlib.suppress(psycopg.Error):
            if plant.rows(condition, *values)[0][0]:
                return
        time.sleep(0.2)


def _sessions(plant: Plant) -> int:
    ((count,),) = plant.rows(
        "select count(*) from pg_stat_activity where application_name like %s", "pgreact%"
    )
    return int(count)


def _progress(report: Report, plant: Plant, window: Window, recovery: float) -> None:
    kind = "things ended" if window.ending else "locks were held"
    report.note(
        f"{window.ended - window.began:4.0f} s {kind}, well again after {recovery:.1f} s; "
        f"{len(plant.exits)} unexpected exits so far"
    )


def _report_faults(report: Report, plant: Plant, faults: Faults) -> None:
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
        [(said, [str(n)]) for said, n in plant.diary.errors.most_common(25)] or [("none", ["0"])],
    )


def _report_left(report: Report, plant: Plant) -> None:
    left = plant.rows(
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
    report: Report, plant: Plant, load: Load, judge: Judge, stopped: datetime.datetime
) -> None:
    facts = judge.facts
    occurrences, missing, double = judge.occurrences(stopped)
    figures = {
        "jobs lost": judge.lost(),
        "jobs not settled after the quiet time": judge.left(),
        "jobs dead without a reason": judge.dead(),
        "runs of rolled-back jobs": judge.phantoms(),
        "attempts started twice": judge.started_twice(),
        "jobs done twice without a reason": judge.done_twice(),
        "attempts taken for lost though their worker lived": judge.lost_in_vain(),
        "jobs done though cancelled": judge.ran_though_cancelled(),
        "jobs claimed before their time": judge.too_early(),
        "limits exceeded": judge.above_limits(),
        "orders of a key broken": judge.out_of_order(),
        "runs of one key beside each other": judge.keys_beside(),
        "rows whose changes are not one job each, in order": judge.outbox(),
        "occurrences missing": missing,
        "occurrences double": double,
        f"wake-ups lost: no dispatch in {WAKE_PATIENCE:g} s": judge.wakes_lost(),
        "flights beside each other, no session ended": judge.flights_beside(),
        "leaders that stepped down, no session ended": judge.leaders_lost(),
        "processes that ended by a fault of pgreact's": [str(end) for end in plant.exits if end.ours],
    }
    for end in plant.exits:
        if not end.ours:
            report.note(f"ended by Celery's own doing: {end.name}: {end.last_words.splitlines()[-1:]}")
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
            ("elections", [f"{plant.diary.counts['leader.elected']:,}"]),
        ],
    )
    for what, found in figures.items():
        report.bar(what, len(found), 0)
    stalls, wakes = list(judge.stalls().values()), judge.wake_delays()
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
            report.note(f"longest stall of the calm lane: {judge.longest_stall()}")
        report.bar("longest stall of the calm lane while locks were held, s", max(stalls), STALL)
    if wakes:
        report.bar("longest wait for a dispatch while locks were held, s", max(wakes), STALL)


def _report_resources(report: Report, plant: Plant, before: int, after: int) -> None:
    memory = [
        (sample.at, size / 1e6)
        for sample in plant.samples
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
