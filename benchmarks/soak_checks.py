"""The checks of the soak: committed, run and logged facts compared, once the cluster is idle."""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from benchmarks import soak_names as names
from benchmarks.soak_cluster import Cluster
from benchmarks.soak_faults import Faults
from benchmarks.soak_load import WAKE_DEADLINE, Load
from pgreact.demo.queue_scene import most_at_once

_ORDER = re.compile(r"public\.orders:\[(\d+)")
# A claim reads the clock after it counts tokens, and rounds both to microseconds.
_TOKEN_ERROR = 1e-3


@dataclasses.dataclass(frozen=True)
class Window:
    """A period of the soak; times in seconds since 1970."""

    began: float
    ended: float
    ending: bool  # faults that end sessions and servers, too

    def holds(self, at: float) -> bool:
        """Return whether a time lies in the window."""
        return self.began <= at <= self.ended


class Attempt(NamedTuple):
    """A row of the history."""

    job: int
    lane: str
    key: str | None
    attempt: int
    outcome: str
    error: str | None
    task_id: str | None
    worker: str | None
    claimed_at: datetime | None
    started_at: datetime | None
    settled_at: datetime


class Run(NamedTuple):
    """A run of a task, recorded by the task."""

    task: str
    number: int | None
    job: int | None
    task_id: str
    pid: int
    began: float
    ended: float | None


class Sent(NamedTuple):
    """A committed job."""

    number: int
    job: int
    kind: str
    key: str | None
    run_at: datetime | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts that the checks compare."""

    sent: list[Sent]
    cancelled: dict[int, str]
    attempts: list[Attempt]
    dead: dict[int, str]
    left: set[int]  # jobs still queued or in progress
    runs: list[Run]
    versions: dict[int, int]  # the number of committed changes by order


def gather(cluster: Cluster) -> Facts:
    """Read the facts of an idle cluster."""
    return Facts(
        sent=[Sent(*row) for row in cluster.rows("select number, job, kind, key, run_at from sent")],
        cancelled=dict(cluster.rows("select job, answer from cancelled where answer is not null")),
        attempts=[
            Attempt(*row)
            for row in cluster.rows(
                "select id, lane, key, attempt, outcome, error, task_id::text, worker, claimed_at, "
                "started_at, settled_at from pgreact.history order by id, attempt, settled_at"
            )
        ],
        dead=dict(cluster.rows("select id, outcome from pgreact.dead")),
        left={
            job
            for (job,) in cluster.rows(
                "select id from pgreact.queue union all select id from pgreact.in_progress"
            )
        },
        runs=[
            Run(*row)
            for row in cluster.runs(
                "select task, number, job, task_id::text, pid, extract(epoch from began)::float8, "
                "extract(epoch from ended)::float8 from run order by began"
            )
        ],
        versions=dict(cluster.rows("select n, version from orders")),
    )


class Checks:
    """The checks; each returns its violations as text."""

    def __init__(
        self, cluster: Cluster, load: Load, faults: Faults, facts: Facts, windows: list[Window]
    ) -> None:
        """Index the facts."""
        self._cluster = cluster
        self._load = load
        self._faults = faults
        self.facts = facts
        self._windows = windows
        self._of_job: dict[int, list[Attempt]] = collections.defaultdict(list)
        for attempt in facts.attempts:
            self._of_job[attempt.job].append(attempt)
        self._done = collections.Counter(a.job for a in facts.attempts if a.outcome == "done")

    def lost(self) -> list[str]:
        """Committed jobs that are neither done, nor cancelled, nor dead for a reason."""
        return [
            f"{sent.kind} job {sent.job}, attempts {self._history(sent.job)}"
            for sent in self.facts.sent
            if sent.job not in self._done
            and sent.job not in self.facts.left
            and sent.job not in self.facts.dead
            and self.facts.cancelled.get(sent.job) is None
        ]

    def left(self) -> list[str]:
        """Jobs that are not settled at the end."""
        return [f"job {job}, attempts {self._history(job)}" for job in sorted(self.facts.left)]

    def dead(self) -> list[str]:
        """Dead jobs without a reason; an unknown task is one, a lost attempt of a cancelled job another."""
        unknown = {sent.job for sent in self.facts.sent if sent.kind == "unknown"}
        return [
            f"job {job}: {outcome}, attempts {self._history(job)}"
            for job, outcome in self.facts.dead.items()
            if not (outcome == "invalid" and job in unknown)
            and not (outcome in {"lost", "failed"} and self.facts.cancelled.get(job) == "started")
        ]

    def phantoms(self) -> list[str]:
        """Runs of rolled-back jobs."""
        sent = {sent.number for sent in self.facts.sent}
        return [
            f"number {r.number}, {r.task}"
            for r in self.facts.runs
            if r.number is not None and r.number not in sent
        ]

    def started_twice(self) -> list[str]:
        """Attempts with more than one start."""
        starts = collections.Counter(run.task_id for run in self.facts.runs if run.job is not None)
        return [f"attempt {task_id}: {count} times" for task_id, count in starts.items() if count > 1]

    def done_twice(self) -> list[str]:
        """Jobs done more than once, or run to the end again though their worker lived."""
        found = [f"job {job}: done {count} times" for job, count in self._done.items() if count > 1]
        ends: dict[int, list[Run]] = collections.defaultdict(list)
        for run in self.facts.runs:
            if run.job is not None and run.ended is not None:
                ends[run.job].append(run)
        for job, runs in ends.items():
            found += [
                f"job {job}: ran to its end {len(runs)} times, attempts {self._history(job)}"
                for run in runs[:-1]
                if run.pid not in self._cluster.killed_pids and job not in self._faults.held
            ]
        return found

    def lost_in_vain(self) -> list[str]:
        """Attempts settled as lost though their worker lived and no fault locked their row."""
        found = []
        for attempt in self.facts.attempts:
            if (
                attempt.outcome == "lost"
                and attempt.started_at is not None
                and attempt.job not in self._faults.held
            ):
                pid = int(attempt.worker.rsplit(" ", 1)[1]) if attempt.worker else 0
                if pid not in self._cluster.killed_pids:
                    found.append(f"job {attempt.job} at {attempt.settled_at:%H:%M:%S}: {attempt.error}")
        return found

    def ran_though_cancelled(self) -> list[str]:
        """Jobs done though their cancellation was committed before the start."""
        return [
            f"job {job}"
            for job, answer in self.facts.cancelled.items()
            if answer == "cancelled" and job in self._done
        ]

    def above_limits(self) -> list[str]:
        """Times with more jobs in progress than a limit, or more claims than a rate allows."""
        claimed = [attempt for attempt in self.facts.attempts if attempt.claimed_at is not None]
        limits: dict[str | None, int] = {None: names.PLACES, **names.LANE_PLACES}
        found = []
        for lane, limit in limits.items():
            most = most_at_once(
                (attempt.claimed_at, attempt.settled_at)
                for attempt in claimed
                if lane in (None, attempt.lane)
            )
            if most > limit:
                found.append(f"{lane or 'all lanes'}: {most} at once, {limit} allowed")
        moments = sorted(a.claimed_at.timestamp() for a in claimed if a.lane == names.RATED and a.claimed_at)
        if (above := above_rate(moments, names.RATE, names.BURST)) > 0:
            found.append(f"{names.RATED}: {above} of {len(moments)} too early")
        return found

    def out_of_order(self) -> list[str]:
        """Pairs of attempts of one key whose later job did not wait for the earlier one."""
        groups: dict[object, list[Attempt]] = collections.defaultdict(list)
        for attempt in self.facts.attempts:
            if attempt.key is not None and attempt.claimed_at is not None:
                order = _ORDER.match(attempt.key)
                groups[int(order[1]) if order else attempt.key].append(attempt)
        return [
            f"key {key}: job {before.job} until {before.settled_at:%H:%M:%S.%f}, "
            f"job {after.job} from {after.claimed_at:%H:%M:%S.%f}"
            for key, attempts in groups.items()
            for before, after in itertools.pairwise(attempts)
            if after.claimed_at is not None and after.claimed_at < before.settled_at
        ]

    def keys_beside(self) -> list[str]:
        """Overlapping runs of two jobs of one key."""
        key_of = {a.job: a.key for a in self.facts.attempts if a.key is not None}
        runs: dict[str, list[Run]] = collections.defaultdict(list)
        for run in self.facts.runs:
            key = key_of.get(run.job) if run.job is not None else None
            if key is not None and run.ended is not None and run.job not in self._faults.held:
                runs[key].append(run)
        return [
            f"key {key}: jobs {before.job} and {after.job}"
            for key, ordered in runs.items()
            for before, after in itertools.pairwise(ordered)
            if before.ended is not None and after.began < before.ended
        ]

    def outbox(self) -> list[str]:
        """Orders whose changes are not one job each, in order, under one key."""
        jobs: collections.Counter[int] = collections.Counter()
        keys: dict[int, set[str]] = collections.defaultdict(set)
        for job, attempts in self._of_job.items():
            key = attempts[0].key
            order = _ORDER.match(key) if key else None
            if order and key:
                keys[int(order[1])].add(key)
                settled = (
                    self._done[job] or self.facts.cancelled.get(job) == "cancelled" or job in self.facts.dead
                )
                jobs[int(order[1])] += 1 if settled else 0
        return [
            f"order {n}: {version} changes, {jobs[n]} jobs, keys {sorted(keys[n])}"
            for n, version in self.facts.versions.items()
            if jobs[n] != version or len(keys[n]) > 1
        ]

    def too_early(self) -> list[str]:
        """Jobs claimed before their `run_at`."""
        run_at = {sent.job: sent.run_at for sent in self.facts.sent if sent.run_at is not None}
        return [
            f"job {attempt.job}"
            for attempt in self.facts.attempts
            if attempt.claimed_at is not None
            and attempt.job in run_at
            and attempt.claimed_at < run_at[attempt.job]
        ]

    def occurrences(self, until: datetime) -> tuple[int, list[str], list[str]]:
        """Return the number of occurrences of all schedules, the missing ones and the double ones."""
        rows = self._cluster.rows(
            "select schedule, nominal_at, outcome, job, task_id::text, error from pgreact.schedule_history "
            "where nominal_at <= %s order by schedule, nominal_at",
            until,
        )
        missing, double, fired_at_all = [], [], 0
        ran = {run.task_id for run in self.facts.runs if run.task == "soak.tick" and run.job is None}
        known: set[str] = set()
        schedules = [*names.QUEUED_SCHEDULES, *names.DIRECT_SCHEDULES, names.BEAT_ENTRY]
        for schedule in schedules:
            fired = [row for row in rows if row[0] == schedule and row[2] == "fired"]
            counts = collections.Counter(row[1] for row in fired)
            double += [f"{schedule} {at:%H:%M:%S}: {n} times" for at, n in counts.items() if n > 1]
            known |= {row[4] for row in fired if row[4] is not None}
            fired_at_all += len(counts)
            if not counts:
                missing.append(f"{schedule}: all")
                continue
            due = 1 + math.floor((until - min(counts)).total_seconds())
            if due > len(counts):
                others = collections.Counter(
                    (row[2], row[5]) for row in rows if row[0] == schedule and row[2] != "fired"
                )
                missing += [f"{schedule}: {len(counts)} of {due}; {dict(others)}"] * (due - len(counts))
            missing += [
                f"{schedule} {row[1]:%H:%M:%S}: job {row[3]} was not done"
                for row in fired
                if row[3] is not None
                and row[3] not in self._done
                and row[3] not in self.facts.left
                and self.facts.cancelled.get(row[3]) is None
            ]
        later = {
            task_id for (task_id,) in self._cluster.rows("select task_id::text from pgreact.schedule_history")
        }
        double += [f"message {task_id} is of no occurrence" for task_id in ran - known - later]
        return fired_at_all, missing, double

    def flights_beside(self) -> list[str]:
        """Overlapping runs of the route with ``single_flight = "run"`` while no session was ended."""
        runs = [run for run in self.facts.runs if run.task == "soak.flown" and run.ended is not None]
        return [
            f"at {datetime.fromtimestamp(after.began):%H:%M:%S}"  # noqa: DTZ006 - local, as in the logs
            for before, after in itertools.pairwise(runs)
            if before.ended is not None and after.began < before.ended and self.holding(after.began)
        ]

    def wakes_lost(self) -> list[str]:
        """Commits without a dispatch."""
        return [
            f"{wake.route} at {wake.committed:.3f}; "
            + self.around(wake.committed, wake.committed + WAKE_DEADLINE)
            for wake in self._load.wakes
            if wake.published is None
        ]

    def around(self, began: float, ended: float) -> str:
        """Return the faults and elections of a period, as text."""
        faults = [
            f"{fault.name} ({fault.began - began:+.1f} to {fault.ended - began:+.1f} s)"
            for fault in self._faults.done
            if fault.began <= ended and fault.ended >= began
        ]
        leaders = [
            f"{entry.source} {entry.name} ({entry.at - began:+.1f} s)"
            for name in ("leader.elected", "leader.lost", "listener.lost")
            for entry in self._cluster.log.find(name, after=began - WAKE_DEADLINE)
            if entry.at <= ended
        ]
        return "; ".join([*faults, *leaders]) or "nothing went wrong"

    def longest_stall(self) -> str:
        """Return the faults during the longest stall of the calm lane, as text."""
        seconds, began = max((seconds, at) for at, seconds in self.stalls().items())
        return f"at {began:.3f}; {self.around(began, began + min(seconds, WAKE_DEADLINE))}"

    def stalls(self) -> dict[float, float]:
        """Return the wait of each job of the calm lane in windows that only hold locks, in seconds.

        Returns:
            Seconds, by when it was about to be enqueued.
        """
        began: dict[int, float] = {}
        for run in self.facts.runs:
            if run.number is not None:
                began.setdefault(run.number, run.began)
        return {
            at: began.get(number, math.inf) - at for number, at in self._load.calm.items() if self.holding(at)
        }

    def wake_delays(self) -> list[float]:
        """Return the wait of each commit for its dispatch in the same windows, in seconds."""
        return [
            (math.inf if wake.published is None else wake.published) - wake.committed
            for wake in self._load.wakes
            if self.holding(wake.committed)
        ]

    def leaders_lost(self) -> list[str]:
        """Leaders that stepped down while no session was ended."""
        return [
            f"{entry.source}: {entry.keys.get('reason')}"
            for entry in self._cluster.log.find("leader.lost")
            if self.holding(entry.at)
        ]

    def holding(self, at: float) -> bool:
        """Return whether a time lies in a window without ended sessions and servers."""
        return any(window.holds(at) for window in self._windows if not window.ending)

    def _history(self, job: int) -> str:
        attempts = " ".join(f"{a.attempt}:{a.outcome}" for a in self._of_job.get(job, ())) or "none"
        runs = [f"{run.began:.3f} to {run.ended}" for run in self.facts.runs if run.job == job]
        return f"{attempts}; runs {', '.join(runs) or 'none'}"


def above_rate(moments: Sequence[float], rate: float, burst: int) -> int:
    """Return the number of claim times that a token bucket would have refused."""
    tokens, last, above = float(burst), -math.inf, 0
    for moment in moments:
        tokens = min(float(burst), tokens + (moment - last) * rate) - 1
        last = moment
        if tokens < -_TOKEN_ERROR:
            above += 1
            tokens = 0.0
    return above
