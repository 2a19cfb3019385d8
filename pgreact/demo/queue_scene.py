"""The scene of the demo that shows the built-in queue."""

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

LANE = "mail"  # of examples/pgreact.toml
QUIET = 0.2  # seconds to wait for a dispatch that must not follow a rollback
SINGLES = 10  # commits of one job
LANE_JOBS = 8
SHORT, MIDDLE, LONG = 0.02, 0.2, 1.0  # seconds a job takes
LEASE = 1.0  # seconds, the shortest that there is
TIMEOUT = 20.0  # seconds for steps that take much less
COLUMNS = 64


class QueueScene:
    """Show the built-in queue on a running cluster."""

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        screen: Screen,
        producer: Producer,
        leader: str,
        places: int,
    ) -> None:
        """Take the parts.

        Args:
            cluster: Which runs and is idle.
            journal: The events of its processes.
            screen: For the output.
            producer: To enqueue jobs.
            leader: The name of the daemon that leads.
            places: The lane's ``max_in_progress``.
        """
        self._cluster = cluster
        self._journal = journal
        self._screen = screen
        self._producer = producer
        self._leader = leader
        self._places = places

    def play(self) -> QueueUse:
        """Run the scene; return what it measured.

        Raises:
            PgreactError: A step takes too long.
            Interrupted: A signal asked the demo to stop.
        """
        self._screen.heading("The built-in queue: select pgreact.enqueue('proj.tasks.send_email', ...)")
        jobs = 2 * WORKER_PROCESSES
        self._follow(self._producer.enqueue(jobs, SHORT))  # so that all processes have connected
        # the leader's event may come after the last job is done
        self._journal.until(lambda: sum(call.keys["claimed"] for call in self._calls()) >= jobs, TIMEOUT)
        rolled_back = self._rollback()
        to_start = [self._one_commit(), *(self._measure() for _ in range(SINGLES - 1))]
        most = self._lane()
        survived = self._killed()
        self._screen.problems()
        return QueueUse(to_start, self._places, most, rolled_back, survived)

    def _rollback(self) -> bool:
        """Enqueue a job and roll back; return whether no dispatch followed and the job is gone."""
        before = len(self._calls())
        job = self._producer.enqueue_and_roll_back()
        self._journal.sleep(QUIET)
        nothing = len(self._calls()) == before and not self._producer.knows(job)
        followed = f"nothing follows in {QUIET * 1000:g} ms" if nothing else "THE JOB IS STILL THERE"
        self._screen.line("producer", f"enqueues job {job} and rolls back: {followed}")
        return nothing

    def _one_commit(self) -> float:
        """Show one job from commit to settlement; return the seconds until it started."""
        commit = self._producer.enqueue(1, SHORT)
        (attempt,) = self._follow(commit)
        self._journal.wait_for("queue.dispatched", self._leader, commit.at, TIMEOUT)
        events = [
            entry
            for entry in self._journal.find("signal.received", self._leader, commit.at)
            if entry.keys["route"] == QUEUE_ROUTE
            and entry.at < attempt.settled  # the settlement causes the next signal
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
        """Return the seconds from one more commit to the start of its job."""
        commit = self._producer.enqueue(1, SHORT)
        return self._follow(commit)[0].started - commit.at

    def _lane(self) -> int:
        """Show a lane with a limit; return the most jobs that were in progress at the same time."""
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
        """Kill the process that runs a job; return whether a later attempt did the job.

        Raises:
            PgreactError: The job is not started in time, or not by the demo's worker.
        """
        self._screen.heading(f"kill -9 a worker's process in the middle of a job; the lease is {LEASE:g} s")
        # Celery takes ten seconds to report that a process died: the lease ends earlier
        self._producer.set_lease(LEASE)
        commit = self._producer.enqueue(1, LONG)
        (job,) = commit.jobs
        workers: list[str] = []

        def runs() -> bool:
            workers[:] = [name for name in (self._producer.worker_of(job),) if name]
            return bool(workers)

        if not self._journal.until(runs, TIMEOUT):
            raise PgreactError(f"no worker started a job of the queue in {TIMEOUT:g} s")
        pid = int(workers[0].rpartition(" ")[2])  # see pgreact.worker.run.worker_name
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
            PgreactError: This takes too long.
        """
        found: list[Attempt] = []

        def done() -> bool:
            found[:] = self._producer.attempts(commit.jobs)
            return {each.job for each in found if each.outcome == "done"} == set(commit.jobs)

        if not self._journal.until(done, TIMEOUT):
            ends = ", ".join(f"job {each.job}: {each.outcome}" for each in found)
            raise PgreactError(
                f"jobs of the queue were not done in {TIMEOUT:g} s; {ends or 'none was started'}"
            )
        return found


def most_at_once(spans: Iterable[tuple[Any, Any]]) -> int:
    """Return the most spans of time that have an instant in common; a span does not include its end."""
    changes = sorted(change for begin, end in spans for change in ((begin, 1), (end, -1)))
    return max(itertools.accumulate((change for _, change in changes), initial=0))


def refills(attempts: Sequence[Attempt], places: int) -> list[float]:
    """Return for each place that became free, while jobs waited, the seconds until the next claim."""
    freed = sorted(each.settled for each in attempts)
    claimed = sorted(each.claimed for each in attempts)[places:]
    return [taken - free for free, taken in zip(freed, claimed, strict=False)]


def chart(attempts: Iterable[Attempt], zero: float, columns: int) -> list[str]:
    """Return a line for each job, from time ``zero`` on: waiting, then in progress."""
    ordered = sorted(attempts, key=lambda each: (each.claimed, each.job))
    scale = columns / (max(each.settled for each in ordered) - zero)
    return [
        f"job {each.job}  {'·' * (begin := round((each.claimed - zero) * scale))}"
        f"{'█' * (round((each.settled - zero) * scale) - begin)}"
        for each in ordered
    ]
