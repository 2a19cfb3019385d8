"""The demo's scene of the built-in queue: rollback, latency, a lane's limit, a killed worker process."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from pgreact.demo.cluster import WORKER, WORKER_PROCESSES, Cluster
from pgreact.demo.journal import Entry, Journal
from pgreact.demo.producer import Attempt, Commit, Producer
from pgreact.demo.report import QueueUse
from pgreact.demo.screen import Screen, described
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import PgreactError
from pgreact.quantities import format_duration

LANE = "mail"  # of examples/plain/pgreact.toml
QUIET = 0.2  # seconds to wait for effects of a rollback
SINGLES = 10  # commits of one job
LANE_JOBS = 8
SHORT, MIDDLE, LONG = 0.02, 0.2, 1.0  # seconds that a job runs
LEASE = 1.0  # seconds, the shortest
TIMEOUT = 20.0  # seconds, for steps that take much less
COLUMNS = 64


class QueueScene:
    """The built-in queue on a running, idle cluster."""

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        screen: Screen,
        producer: Producer,
        leader: str,
        places: int,
    ) -> None:
        """Take the parts; start nothing.

        Args:
            cluster: Running and idle.
            journal: The events of its processes.
            screen: Prints the scene.
            producer: Enqueues the jobs.
            leader: Name of the daemon that leads.
            places: ``max_in_progress`` of the lane.
        """
        self._cluster = cluster
        self._journal = journal
        self._screen = screen
        self._producer = producer
        self._leader = leader
        self._places = places

    def play(self) -> QueueUse:
        """Run the scene.

        Raises:
            PgreactError: A step does not end in time.
            Interrupted: A signal asked to stop.
        """
        self._screen.heading("The built-in queue: select pgreact.enqueue('proj.tasks.send_email', ...)")
        jobs = 2 * WORKER_PROCESSES
        self._follow(self._producer.enqueue(jobs, SHORT))  # lets all worker processes connect
        # the leader may log its claim after the last of them is done
        self._journal.until(lambda: sum(call.keys["claimed"] for call in self._calls()) >= jobs, TIMEOUT)
        rolled_back = self._rollback()
        to_start = [self._one_commit(), *(self._measure() for _ in range(SINGLES - 1))]
        most = self._lane()
        survived = self._killed()
        self._screen.warnings()
        return QueueUse(to_start, self._places, most, rolled_back, survived)

    def _rollback(self) -> bool:
        """Enqueue and roll back; return whether the job left no trace."""
        before = len(self._calls())
        job = self._producer.enqueue_and_roll_back()
        self._journal.sleep(QUIET)
        nothing = len(self._calls()) == before and not self._producer.knows(job)
        followed = f"nothing follows in {QUIET * 1000:g} ms" if nothing else "THE JOB IS STILL THERE"
        self._screen.line("producer", f"enqueues job {job} and rolls back: {followed}")
        return nothing

    def _one_commit(self) -> float:
        """Show the steps of one job; return the seconds from its commit to its start."""
        commit = self._producer.enqueue(1, SHORT)
        (attempt,) = self._follow(commit)
        self._journal.wait_for("queue.dispatched", self._leader, commit.at, TIMEOUT)
        events = [
            entry
            for entry in self._journal.find("signal.received", self._leader, commit.at)
            if entry.keys["route"] == QUEUE_ROUTE
            and entry.at < attempt.settled  # the settlement signals next
        ]
        events += self._journal.find("queue.dispatched", self._leader, commit.at)
        self._screen.story(
            [
                (commit.at, "producer", f"enqueues job {attempt.job} and commits"),
                *((entry.at, entry.source, described(entry)) for entry in events),
                (attempt.started, WORKER, f"starts job {attempt.job}"),
                (attempt.settled, WORKER, f"settles job {attempt.job}: {attempt.outcome}"),
            ],
            commit.at,
        )
        return attempt.started - commit.at

    def _measure(self) -> float:
        """Return the seconds from the commit of one more job to its start."""
        commit = self._producer.enqueue(1, SHORT)
        return self._follow(commit)[0].started - commit.at

    def _lane(self) -> int:
        """Show a lane with a limit; return the greatest number of its jobs in progress at one instant."""
        commit = self._producer.enqueue(LANE_JOBS, MIDDLE, LANE)
        attempts = self._follow(commit)
        most = most_at_once((each.claimed, each.settled) for each in attempts)
        filled = refills(attempts, self._places)
        self._screen.heading(f"Lane {LANE}: max_in_progress = {self._places}, {LANE_JOBS} jobs in one commit")
        for row in chart(attempts, commit.at, COLUMNS):
            self._screen.detail(row)
        self._screen.detail(
            f"{most} in progress at most; a free place was filled after "
            f"{statistics.median(filled) * 1000:.1f} ms (median)"
        )
        return most

    def _killed(self) -> bool:
        """Kill the process that runs a job; return whether a later attempt finished it.

        Raises:
            PgreactError: The job does not start in time, or another worker runs it.
        """
        lease = format_duration(LEASE)
        self._screen.heading(f"kill -9 a worker's process in the middle of a job; the lease is {lease}")
        # with the default lease, Celery would report the death first, after ten seconds
        self._producer.set_lease(LEASE)
        commit = self._producer.enqueue(1, LONG)
        (job,) = commit.jobs
        workers: list[str] = []

        def started() -> bool:
            workers[:] = [name for name in (self._producer.worker_of(job),) if name]
            return bool(workers)

        if not self._journal.until(started, TIMEOUT):
            raise PgreactError(f"no worker started a job of the queue in {format_duration(TIMEOUT)}")
        pid = int(workers[0].rpartition(" ")[2])  # as pgreact names workers
        killed = self._cluster.kill_child(pid)
        attempts = self._follow(commit)
        rows = [(killed, WORKER, f"process {pid} is killed")]
        for each in attempts:
            rows.append((each.started, WORKER, f"starts job {job}, attempt {each.number}"))
            if each.outcome == "lost":
                rows.append(
                    (each.settled, self._leader, f"attempt {each.number} is lost: its lease has ended")
                )
            else:
                rows.append((each.settled, WORKER, f"settles attempt {each.number}: {each.outcome}"))
        self._screen.story(rows, attempts[0].started)
        return [attempts[0].outcome, attempts[-1].outcome] == ["lost", "done"]

    def _calls(self) -> list[Entry]:
        return self._journal.find("queue.dispatched")

    def _follow(self, commit: Commit) -> list[Attempt]:
        """Wait until the jobs of a commit are done; return their attempts.

        Raises:
            PgreactError: They are not done in time.
        """
        found: list[Attempt] = []

        def done() -> bool:
            found[:] = self._producer.attempts(commit.jobs)
            return {each.job for each in found if each.outcome == "done"} == set(commit.jobs)

        if not self._journal.until(done, TIMEOUT):
            ends = ", ".join(f"job {each.job}: {each.outcome}" for each in found)
            raise PgreactError(
                f"jobs of the queue were not done in {format_duration(TIMEOUT)}; {ends or 'none was settled'}"
            )
        return found


def most_at_once(spans: Iterable[tuple[Any, Any]]) -> int:
    """Return the greatest number of spans that share an instant; a span excludes its end."""
    changes = sorted(change for begin, end in spans for change in ((begin, 1), (end, -1)))
    return max(itertools.accumulate((change for _, change in changes), initial=0))


def refills(attempts: Sequence[Attempt], places: int) -> list[float]:
    """Return the seconds from each settlement to the claim that filled the free place."""
    freed = sorted(each.settled for each in attempts)
    claimed = sorted(each.claimed for each in attempts)[places:]
    return [taken - free for free, taken in zip(freed, claimed, strict=False)]


def chart(attempts: Iterable[Attempt], zero: float, columns: int) -> list[str]:
    """Draw one line per job from time ``zero`` on: dots while it waits, blocks while it is in progress."""
    ordered = sorted(attempts, key=lambda each: (each.claimed, each.job))
    scale = columns / (max(each.settled for each in ordered) - zero)
    return [
        f"job {each.job}  {'·' * (begin := round((each.claimed - zero) * scale))}"
        f"{'█' * (round((each.settled - zero) * scale) - begin)}"
        for each in ordered
    ]
