"""What a soak shows: figures of what was committed, run and told, once all is quiet."""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from benchmarks import soak_names as names
from benchmarks.soak_faults import Faults
from benchmarks.soak_load import WAKE_PATIENCE, Load
from benchmarks.soak_plant import Plant
from pgreact.demo.queue_scene import most_at_once

_ORDER = re.compile(r"public\.orders:\[(\d+)")
# A claim reads the clock after it counted tokens, and both are rounded to microseconds.
_TOKEN_ERROR = 1e-3


@dataclasses.dataclass(frozen=True)
class Window:
    """Some seconds of the soak, in seconds since 1970."""

    began: float
    ended: float
    ending: bool  # whether sessions and servers were ended, too

    def holds(self, at: float) -> bool:
        """Whether a moment lies in it."""
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
    """A run of a task, as the task recorded it."""

    task: str
    number: int | None
    job: int | None
    task_id: str
    pid: int
    began: float
    ended: float | None


class Sent(NamedTuple):
    """A job whose enqueueing was committed."""

    number: int
    job: int
    kind: str
    key: str | None
    run_at: datetime | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that the figures are made of."""

    sent: list[Sent]
    cancelled: dict[int, str]
    attempts: list[Attempt]
    dead: dict[int, str]
    left: set[int]  # jobs that are still queued or in progress
    runs: list[Run]
    versions: dict[int, int]  # how many changes of each order were committed


def gather(plant: Plant) -> Facts:
    """Read them, when nothing happens any more."""
    return Facts(
        sent=[Sent(*row) for row in plant.rows("select number, job, kind, key, run_at from sent")],
        cancelled=dict(plant.rows("select job, answer from cancelled where answer is not null")),
        attempts=[
            Attempt(*row)
            for row in plant.rows(
                "select id, lane, key, attempt, outcome, error, task_id::text, worker, claimed_at, "
                "started_at, settled_at from pgreact.history order by id, attempt, settled_at"
            )
        ],
        dead=dict(plant.rows("select id, outcome from pgreact.dead")),
        left={
            job
            for (job,) in plant.rows(
                "select id from pgreact.queue union all select id from pgreact.in_progress"
            )
        },
        runs=[
            Run(*row)
            for row in plant.runs(
                "select task, number, job, task_id::text, pid, extract(epoch from began)::float8, "
                "extract(epoch from ended)::float8 from run order by began"
            )
        ],
        versions=dict(plant.rows("select n, version from orders")),
    )


class Judge:
    """Counts what ought not to be; each figure comes with a few examples."""

    def __init__(self, plant: Plant, load: Load, faults: Faults, facts: Facts, windows: list[Window]) -> None:
        """Order the facts."""
        self._plant = plant
        self._load = load
        self._faults = faults
        self.facts = facts
        self._windows = windows
        self._of_job: dict[int, list[Attempt]] = collections.defaultdict(list)
        for attempt in facts.attempts:
            self._of_job[attempt.job].append(attempt)
        self._done = collections.Counter(a.job for a in facts.attempts if a.outcome == "done")

    def lost(self) -> list[str]:
        """Jobs that were committed, and neither done nor dead for a reason nor cancelled."""
        return [
            f"{sent.kind} job {sent.job}, attempts {self._told(sent.job)}"
            for sent in self.facts.sent
            if sent.job not in self._done
            and sent.job not in self.facts.left
            and sent.job not in self.facts.dead
            and self.facts.cancelled.get(sent.job) is None
        ]

    def left(self) -> list[str]:
        """Jobs that are not settled after the quiet time."""
        return [f"job {job}, attempts {self._told(job)}" for job in sorted(self.facts.left)]

    def dead(self) -> list[str]:
        """Jobs that are dead without a reason: a task that nobody knows, or a cancelled one that was lost."""
        unknown = {sent.job for sent in self.facts.sent if sent.kind == "unknown"}
        return [
            f"job {job}: {outcome}, attempts {self._told(job)}"
            for job, outcome in self.facts.dead.items()
            if not (outcome == "invalid" and job in unknown)
            and not (outcome in {"lost", "failed"} and self.facts.cancelled.get(job) == "started")
        ]

    def phantoms(self) -> list[str]:
        """Runs of jobs whose enqueueing was rolled back."""
        sent = {sent.number for sent in self.facts.sent}
        return [
            f"number {r.number}, {r.task}"
            for r in self.facts.runs
            if r.number is not None and r.number not in sent
        ]

    def started_twice(self) -> list[str]:
        """Attempts that were started more than once."""
        starts = collections.Counter(run.task_id for run in self.facts.runs if run.job is not None)
        return [f"attempt {task_id}: {count} times" for task_id, count in starts.items() if count > 1]

    def done_twice(self) -> list[str]:
        """Jobs that are done more than once, or ran to the end again though nothing took their worker."""
        found = [f"job {job}: done {count} times" for job, count in self._done.items() if count > 1]
        ends: dict[int, list[Run]] = collections.defaultdict(list)
        for run in self.facts.runs:
            if run.job is not None and run.ended is not None:
                ends[run.job].append(run)
        for job, runs in ends.items():
            found += [
                f"job {job}: ran to its end {len(runs)} times, attempts {self._told(job)}"
                for run in runs[:-1]
                if run.pid not in self._plant.killed_pids and job not in self._faults.held
            ]
        return found

    def lost_in_vain(self) -> list[str]:
        """Attempts that were taken for lost, though their worker lived and nobody held their row."""
        found = []
        for attempt in self.facts.attempts:
            if (
                attempt.outcome == "lost"
                and attempt.started_at is not None
                and attempt.job not in self._faults.held
            ):
                pid = int(attempt.worker.rsplit(" ", 1)[1]) if attempt.worker else 0
                if pid not in self._plant.killed_pids:
                    found.append(f"job {attempt.job} at {attempt.settled_at:%H:%M:%S}: {attempt.error}")
        return found

    def ran_though_cancelled(self) -> list[str]:
        """Jobs that are done though their cancellation was committed before they began."""
        return [
            f"job {job}"
            for job, answer in self.facts.cancelled.items()
            if answer == "cancelled" and job in self._done
        ]

    def above_limits(self) -> list[str]:
        """Moments at which more was in progress than a limit allows, or more began than a rate does."""
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
        """Pairs of attempts of one key of which the later job did not wait for the earlier."""
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
        """Runs of two jobs of one key at the same time."""
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
        """Orders whose changes are not one job each, all under one key."""
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
        """Jobs that were claimed before their time."""
        run_at = {sent.job: sent.run_at for sent in self.facts.sent if sent.run_at is not None}
        return [
            f"job {attempt.job}"
            for attempt in self.facts.attempts
            if attempt.claimed_at is not None
            and attempt.job in run_at
            and attempt.claimed_at < run_at[attempt.job]
        ]

    def occurrences(self, until: datetime) -> tuple[int, list[str], list[str]]:
        """Return how many there were of all schedules, those that are missing, and those that are double."""
        rows = self._plant.rows(
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
            task_id for (task_id,) in self._plant.rows("select task_id::text from pgreact.schedule_history")
        }
        double += [f"message {task_id} is of no occurrence" for task_id in ran - known - later]
        return fired_at_all, missing, double

    def flights_beside(self) -> list[str]:
        """Overlapping runs of the route with one run at a time, while no session ended."""
        runs = [run for run in self.facts.runs if run.task == "soak.flown" and run.ended is not None]
        return [
            f"at {datetime.fromtimestamp(after.began):%H:%M:%S}"  # noqa: DTZ006 - to find it in this machine's logs
            for before, after in itertools.pairwise(runs)
            if before.ended is not None and after.began < before.ended and self.holding(after.began)
        ]

    def wakes_lost(self) -> list[str]:
        """Commits that no dispatch followed."""
        return [
            f"{wake.route} at {wake.committed:.3f}; "
            + self.around(wake.committed, wake.committed + WAKE_PATIENCE)
            for wake in self._load.wakes
            if wake.published is None
        ]

    def around(self, began: float, ended: float) -> str:
        """Return what went wrong at a time, and who led."""
        faults = [
            f"{fault.name} ({fault.began - began:+.1f} to {fault.ended - began:+.1f} s)"
            for fault in self._faults.done
            if fault.began <= ended and fault.ended >= began
        ]
        leaders = [
            f"{entry.source} {entry.name} ({entry.at - began:+.1f} s)"
            for name in ("leader.elected", "leader.lost", "listener.lost")
            for entry in self._plant.diary.find(name, after=began - WAKE_PATIENCE)
            if entry.at <= ended
        ]
        return "; ".join([*faults, *leaders]) or "nothing went wrong"

    def longest_stall(self) -> str:
        """Return what went wrong during the longest stall of the calm lane, while locks were held."""
        seconds, began = max((seconds, at) for at, seconds in self.stalls().items())
        return f"at {began:.3f}; {self.around(began, began + min(seconds, WAKE_PATIENCE))}"

    def stalls(self) -> dict[float, float]:
        """Return how long each job of the calm lane waited while locks were held and nothing ended.

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
        """Return how long each commit waited for its dispatch, likewise."""
        return [
            (math.inf if wake.published is None else wake.published) - wake.committed
            for wake in self._load.wakes
            if self.holding(wake.committed)
        ]

    def leaders_lost(self) -> list[str]:
        """Leaders that stepped down while no session was ended."""
        return [
            f"{entry.source}: {entry.keys.get('reason')}"
            for entry in self._plant.diary.find("leader.lost")
            if self.holding(entry.at)
        ]

    def holding(self, at: float) -> bool:
        """Whether at a moment only transactions of others, and workers of the busy queue, were in the way."""
        return any(window.holds(at) for window in self._windows if not window.ending)

    def _told(self, job: int) -> str:
        attempts = " ".join(f"{a.attempt}:{a.outcome}" for a in self._of_job.get(job, ())) or "none"
        runs = [f"{run.began:.3f} to {run.ended}" for run in self.facts.runs if run.job == job]
        return f"{attempts}; runs {', '.join(runs) or 'none'}"


def above_rate(moments: Sequence[float], rate: float, burst: int) -> int:
    """Return how many moments a bucket of tokens would not have allowed."""
    tokens, last, above = float(burst), -math.inf, 0
    for moment in moments:
        tokens = min(float(burst), tokens + (moment - last) * rate) - 1
        last = moment
        if tokens < -_TOKEN_ERROR:
            above += 1
            tokens = 0.0
    return above
