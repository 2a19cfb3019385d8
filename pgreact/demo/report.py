"""The demo's measurements, and the summary that it prints."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from pgreact.demo.journal import Entry
from pgreact.demo.producer import Commit
from pgreact.quantities import format_duration

BEAT = 30.0  # seconds between two ticks of Celery Beat, for comparison


@dataclasses.dataclass(frozen=True)
class Takeover:
    """The times of a takeover, in seconds since 1970."""

    killed: float
    successor: str  # the daemon that took over
    elected: float
    dispatched: float


@dataclasses.dataclass(frozen=True)
class QueueUse:
    """The measurements of the built-in queue."""

    to_start: Sequence[float]  # seconds from a commit of one job to its start
    places: int  # max_in_progress of the lane
    most: int  # greatest number of its jobs in progress at one instant
    rolled_back: bool  # a rolled-back job left no trace
    survived: bool  # a later attempt finished the job of a killed process

    @property
    def passed(self) -> bool:
        """Whether the queue kept its promises."""
        return 0 < self.most <= self.places and self.rolled_back and self.survived


@dataclasses.dataclass(frozen=True)
class Report:
    """The raw measurements, and numbers derived from them."""

    commits: Sequence[Commit]
    dispatches: Sequence[Entry]  # dispatch.published
    done: Mapping[int, tuple[float, float]]
    takeover: Takeover
    queue: QueueUse

    @property
    def committed(self) -> int:
        """The number of committed jobs."""
        return sum(len(commit.jobs) for commit in self.commits)

    @property
    def passed(self) -> bool:
        """Whether all jobs are done, and the built-in queue kept its promises."""
        return self.committed == len(self.done) and self.queue.passed

    def to_dispatch(self) -> list[float]:
        """Return for each commit the seconds to the end of the first publish that began after it."""
        published = [
            (entry.at - float(entry.keys["publish_ms"]) / 1000, entry.at) for entry in self.dispatches
        ]
        return [
            found - commit.at
            for commit in self.commits
            if (found := min((end for begin, end in published if begin >= commit.at), default=None))
        ]

    def to_start(self, *, alone: bool = False) -> list[float]:
        """Return for each job that is done the seconds from its commit to its start.

        Args:
            alone: Only for commits of a single job.
        """
        return [
            self.done[job][0] - commit.at
            for commit in self.commits
            for job in commit.jobs
            if job in self.done and not (alone and len(commit.jobs) > 1)
        ]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def lines(report: Report, limit: int, window: float) -> Iterator[str]:
    """Return the lines of the summary.

    Args:
        report: The measurements.
        limit: The greatest number of jobs in progress.
        window: The route's window in seconds.
    """
    signals = sum(int(entry.keys["signals"]) for entry in report.dispatches)
    yield f"jobs done           {len(report.done)} of {report.committed}, from {len(report.commits)} commits"
    yield f"Celery calls        {len(report.dispatches)}, for {signals} signals"
    led = report.takeover.elected - report.takeover.killed
    called = report.takeover.dispatched - report.takeover.killed
    yield f"takeover            {_ms(led).strip()} from kill -9 until {report.takeover.successor} led,"
    yield f"                    {_ms(called).strip()} until its first Celery call"
    yield f"built-in queue      {_queue(report.queue)}"
    yield ""
    yield f"{'':<20}{'p50':>9}    {'p99':>9}"
    for name, values, note in (
        (
            "commit → dispatch",
            report.to_dispatch(),
            f"at most one per {window * 1000:g} ms: some commits wait",
        ),
        ("commit → job start", report.to_start(alone=True), "commits of one job"),
        ("", report.to_start(), f"all jobs: {limit} run at a time, so bursts wait"),
    ):
        yield f"{name:<20}{_ms(percentile(values, 0.5))} {_ms(percentile(values, 0.99))}   {note}"
    yield (
        f"{f'Beat every {format_duration(BEAT)}':<20}{_ms(BEAT / 2)} {_ms(BEAT * 0.99)}   "
        f"commit → dispatch, computed: the mean is {BEAT / 2:g} s"
    )


def _queue(use: QueueUse) -> str:
    parts = [
        f"commit → start p50 {_ms(percentile(use.to_start, 0.5)).strip()}",
        f"{use.most} of {use.places} places, {'never more' if use.most <= use.places else 'TOO MANY'}",
    ]
    if not use.rolled_back:
        parts.append("A ROLLBACK LEFT A JOB")
    parts.append("a killed job ran again" if use.survived else "A KILLED JOB DID NOT RUN AGAIN")
    return "; ".join(parts)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:>9,.{1 if seconds < 0.1 else 0}f} ms"
