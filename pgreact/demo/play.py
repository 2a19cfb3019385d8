"""The course of the demo: start, one commit, traffic with a failover, the queue, the report."""

import random
import time

import click

from pgreact import settings
from pgreact.demo import report
from pgreact.demo.cluster import DAEMONS, WORKER, WORKER_PROCESSES, Cluster
from pgreact.demo.journal import Journal
from pgreact.demo.producer import Commit, Producer
from pgreact.demo.queue_scene import LANE, QueueScene
from pgreact.demo.report import Report, Takeover
from pgreact.demo.screen import Screen, described
from pgreact.errors import PgreactError
from pgreact.quantities import format_duration

LIMIT = 4  # jobs in progress at a time, as examples/plain/proj/tasks.py says
MEAN_PAUSE = 0.5  # mean seconds between two commits
BURSTS = (1, 1, 1, 1, 1, 1, 1, 5, 10, 20)  # jobs of a commit
TIMEOUT = 20.0  # seconds, for steps that take much less


def play(journal: Journal, seconds: float, began: float) -> bool:
    """Run the demo.

    Args:
        journal: Receives the events of all processes.
        seconds: Time during which jobs are committed.
        began: Start of the command, in seconds since 1970.

    Returns:
        Whether all jobs were done and the built-in queue kept its promises. Without a takeover by the standby
        it raises.

    Raises:
        PgreactError: A part is missing, did not start, or failed.
        Interrupted: A signal asked to stop.
    """
    cluster = Cluster(journal)
    example = settings.load(str(cluster.example / "pgreact.toml"), {})
    window, places = example.routes["dispatch"].window, example.lanes[LANE].max_in_progress or 0
    screen = Screen(journal, began)
    screen.title("pgreact demo: a Celery cluster on this machine, removed at the end")
    with cluster:
        leader, standby = _set_up(cluster, journal, screen)
        with Producer(cluster.dsn) as producer:
            scene = _Scene(cluster, journal, screen, producer, leader, standby)
            scene.first_jobs()
            scene.one_commit(pause=2 * window)
            takeover = scene.traffic(seconds)
            everything = {job for commit in producer.commits for job in commit.jobs}
            journal.until(lambda: producer.done().keys() >= everything, TIMEOUT)
            screen.warnings()
            queue = QueueScene(cluster, journal, screen, producer, takeover.successor, places).play()
            calls = journal.find("dispatch.published")
            found = Report(producer.commits, calls, producer.done(), takeover, queue)
    screen.heading("Measured")
    for line in report.lines(found, LIMIT, window):
        click.echo(f"  {line}".rstrip())
    click.echo("\nEverything is stopped and removed. To use your own tables: README.md, examples/.")
    return found.passed


def _set_up(cluster: Cluster, journal: Journal, screen: Screen) -> tuple[str, str]:
    """Start all processes; return the names of leader and standby."""
    screen.heading("Setting up")
    place = f"127.0.0.1:{cluster.postgres.port}, in a temporary directory"
    screen.step(f"PostgreSQL {cluster.postgres.major}", place)
    cluster.make_tables()
    screen.step("job_queue, in_progress, job_done", f"the tables of {cluster.example}")
    cluster.start_worker()
    plan = cluster.apply()
    screen.step("pgreact apply")
    for line in plan:
        screen.detail(line)
    for name in DAEMONS:
        cluster.start_daemon(name)
    journal.wait_for("worker.ready", WORKER, deadline=60)
    screen.step("celery worker")
    for name in DAEMONS:
        journal.wait_for("listener.connected", name)
    if not journal.until(
        lambda: bool(journal.find("leader.elected") and journal.find("standby.waiting")), TIMEOUT
    ):
        raise PgreactError(f"no leader and standby in {format_duration(TIMEOUT)}")
    leader, standby = journal.find("leader.elected")[0].source, journal.find("standby.waiting")[0].source
    for name, state in ((leader, "leads"), (standby, "stands by")):
        screen.step("pgreact listen", f"{name} {state}, pid {cluster.daemons[name].pid}")
    return leader, standby


class _Scene:
    """The steps on a running cluster."""

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        screen: Screen,
        producer: Producer,
        leader: str,
        standby: str,
    ) -> None:
        self._cluster = cluster
        self._journal = journal
        self._screen = screen
        self._producer = producer
        self._leader = leader
        self._standby = standby

    def first_jobs(self) -> None:
        """Run jobs until every worker process has its connections."""
        jobs = LIMIT * WORKER_PROCESSES  # enough for most worker processes to dispatch once
        commit, started, _ = self._follow(jobs)
        waited = (started - commit.at) * 1000
        self._screen.step(f"the first {jobs} jobs", f"{waited:.0f} ms to a start: all processes connect")

    def one_commit(self, pause: float) -> None:
        """Show one commit, its dispatch, its job, and the dispatch for the free place.

        Args:
            pause: Seconds to wait first, until the window of an earlier dispatch has ended.
        """
        self._screen.heading("One commit, step by step")
        self._journal.sleep(pause)
        commit, started, finished = self._follow(1)
        job = commit.jobs[0]
        events = self._journal.find("signal.received", after=commit.at)
        events += self._journal.find("dispatch.published", after=commit.at)
        self._screen.story(
            [
                (commit.at, "producer", f"commits job {job}: one row in job_queue"),
                *((entry.at, entry.source, described(entry)) for entry in events),
                (started, WORKER, f"starts job {job}"),
                (finished, WORKER, f"deletes job {job} from in_progress and commits: a place is free"),
            ],
            commit.at,
        )

    def traffic(self, seconds: float) -> Takeover:
        """Commit single jobs and bursts at random; kill the leader halfway."""
        self._screen.heading(f"Single jobs and bursts for {format_duration(seconds)}")
        self._screen.table_head(self._producer)
        began = time.monotonic()
        next_commit, kill_at = began, began + seconds / 2
        takeover: Takeover | None = None
        for second in range(1, int(seconds) + 1):
            while (now := time.monotonic()) < began + second:
                if takeover is None and now >= kill_at:
                    takeover = self._kill_leader()
                    self._screen.table_head(self._producer)
                elif now >= next_commit:
                    self._producer.commit(random.choice(BURSTS))
                    next_commit = now + random.expovariate(1 / MEAN_PAUSE)
                else:
                    due = [next_commit, began + second, *([kill_at] if takeover is None else [])]
                    self._journal.sleep(min(due) - now)
            self._screen.second(second, self._producer)
        return takeover or self._kill_leader()

    def _kill_leader(self) -> Takeover:
        """Kill the leader, commit while there is none, and wait for the standby to take over.

        Raises:
            PgreactError: The standby does not take over in time.
        """
        self._screen.heading(f"kill -9 {self._leader}, the leader")
        killed = self._cluster.daemons[self._leader].kill()
        commit = self._producer.commit(3)
        elected = self._journal.wait_for("leader.elected", self._standby, killed, TIMEOUT)
        dispatched = self._journal.wait_for("dispatch.published", self._standby, killed, TIMEOUT)
        sweeps = self._journal.find("sweep.finished", self._standby, killed)
        # the built-in queue has a route, too, and a scene of its own
        events = [elected, *(sweep for sweep in sweeps if sweep.keys["route"] == "dispatch"), dispatched]
        note = ", while there is no leader" if commit.at < elected.at else ""
        self._screen.story(
            [
                (killed, self._leader, "killed"),
                (commit.at, "producer", f"commits {len(commit.jobs)} jobs{note}"),
                *((entry.at, entry.source, described(entry)) for entry in events),
            ],
            killed,
        )
        click.echo()
        return Takeover(killed, self._standby, elected.at, dispatched.at)

    def _follow(self, jobs: int) -> tuple[Commit, float, float]:
        """Commit jobs, and wait until they are done and dispatched.

        Returns:
            The commit, the start of its first job and the end of its last one, in seconds since 1970.

        Raises:
            PgreactError: The jobs are not done in time.
        """
        commit = self._producer.commit(jobs)
        self._journal.wait_for("dispatch.published", self._leader, commit.at, TIMEOUT)
        if not self._journal.until(lambda: self._producer.done().keys() >= set(commit.jobs), TIMEOUT):
            raise PgreactError(f"the jobs of a commit were not done in {format_duration(TIMEOUT)}")
        done = [self._producer.done()[job] for job in commit.jobs]
        ended = max(finished for _, finished in done)
        self._journal.wait_for("dispatch.published", self._leader, ended, TIMEOUT)
        return commit, min(started for started, _ in done), ended
