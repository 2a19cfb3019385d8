"""Workers that run jobs, without a daemon: tests claim jobs and send their messages."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import psutil
from celery import Celery

from pgreact.apply import apply
from pgreact.broker.message_headers import JOB_TASK
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.settings import Settings
from tests import jobs_app
from tests.harness import Database, eventually, fresh_database
from tests.hostile import PINNED
from tests.worker import ROOT, Worker


def prepare(database: Database) -> None:
    """Make pgreact's schema in a database."""
    with database.connect(options=PINNED) as connection:
        list(apply(connection, Settings(), 10.0, lambda _line: None))


@contextlib.contextmanager
def a_cluster(server: EmbeddedPostgres, broker: str, pool: str, **environ: str) -> Iterator["Cluster"]:
    """A database and a worker that keeps results, shared by many tests."""
    with fresh_database(server) as database:
        prepare(database)
        cluster = Cluster(database, broker, f"q_{uuid4().hex[:12]}")
        try:
            cluster.start(pool, TASK_BACKEND=broker, **environ)
            yield cluster
        finally:
            cluster.stop()


class JobsWorker(Worker):
    """A ``celery worker`` process of ``tests.jobs_app``."""

    def __init__(
        self, broker: str, queue: str, pool: str, concurrency: int, environ: Mapping[str, str]
    ) -> None:
        self.name = f"{queue}-{id(self)}@t"
        self.environ = environ
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.jobs_app", "worker", "-P", pool),
                *("-c", str(concurrency), "-Q", queue, "-l", "info", "-n", self.name),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TASK_BROKER": broker,
                "TASK_QUEUE": queue,
                "C_FORCE_ROOT": "1",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()


class Cluster:
    """A database with a queue, workers, and a gate at which their runs wait."""

    def __init__(self, database: Database, broker: str, queue: str, runs: Database | None = None) -> None:
        self.database, self.broker, self.queue = database, broker, queue
        self.where_runs = runs or database
        self.workers: list[JobsWorker] = []
        self.pool = ""
        self._app = Celery("sender", broker=broker, set_as_current=False)
        self.where_runs.run(
            "create table runs (id serial, name text, task_id text, claim text, pid int, "
            "began timestamptz default clock_timestamp(), ended timestamptz)"
        )
        self.database.run(
            "update pgreact.queue_setting set retention = '1 day'", "select pgreact.maintain_history()"
        )
        self._gate = self.where_runs.connect()

    def start(self, pool: str = "prefork", concurrency: int = 2, **environ: str) -> JobsWorker:
        """Start a worker, and return once it takes messages."""
        self.pool = pool
        environ = {"PGREACT_DSN": self.database.dsn, "TASK_DSN": self.where_runs.dsn, **environ}
        worker = JobsWorker(self.broker, self.queue, pool, concurrency, environ)
        self.workers.append(worker)
        worker.wait_for_log(" ready.", 60)
        return worker

    def enqueue(self, task: str, *args: Any, sql: str = "", **kwargs: Any) -> int:
        """Enqueue a job of a task of the application; ``sql``: more arguments of ``pgreact.enqueue``."""
        return int(
            self.database.value(
                f"select pgreact.enqueue(%s, %s, %s, lane => 'default', backoff => '0'{sql and ', ' + sql})",
                task if "." in task else f"tests.jobs_app.{task}",
                json.dumps(args),
                json.dumps(kwargs),
            )
        )

    def lease(self, lease: str) -> None:
        """Set the lease of later starts."""
        self.database.run(f"update pgreact.queue_setting set lease = '{lease}'")

    def claim(self) -> list[dict[str, Any]]:
        """Claim; return the jobs to send."""
        return list(self.database.value("select pgreact.claim(100) -> 'jobs'"))

    def post(self, jobs: list[dict[str, Any]], copies: int = 1, **more: Any) -> None:
        """Send jobs as the daemon does.

        Args:
            jobs: As claimed.
            copies: So many messages each.
            **more: Options of ``send_task``.
        """
        own_headers = more.pop("headers", {})
        for job in jobs:
            headers = {
                "pgreact_job": job["id"],
                "pgreact_claim": job["claim_id"],
                "pgreact_task": job["task"],
                "pgreact_attempt": job["attempt"],
                **own_headers,
            }
            if job["again"]:
                headers["pgreact_again"] = True
            if job["before"]:
                headers["pgreact_before"] = job["before"]
            args, kwargs, own = (json.loads(job[part]) for part in ("args", "kwargs", "options"))
            options = {"queue": self.queue, "shadow": job["task"], **own, "headers": headers}
            options |= {"retries": job["retries"], **more}
            for _ in range(copies):
                self._app.send_task(JOB_TASK, args, kwargs, task_id=job["task_id"], **options)

    def dispatch(self, copies: int = 1, **more: Any) -> list[str]:
        """Claim jobs and send them; return the tasks' ids."""
        jobs = self.claim()
        self.post(jobs, copies, **more)
        return [job["task_id"] for job in jobs]

    def run(self, task: str, *args: Any, sql: str = "max_attempts => 1", **kwargs: Any) -> tuple[int, str]:
        """Enqueue a job of one attempt and send it; return its id and its task's id."""
        job = self.enqueue(task, *args, sql=sql, **kwargs)
        (task_id,) = self.dispatch()
        return job, task_id

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send a plain Celery message; return the task's id."""
        return str(self._app.send_task(f"tests.jobs_app.{task}", args, queue=self.queue, **options).id)

    def attempts(self, job: int) -> list[str]:
        """Return how the attempts of a job ended, in order."""
        with self.database.connect() as connection:
            return [
                row[0]
                for row in connection.execute(
                    "select outcome from pgreact.history where id = %s order by settled_at", (job,)
                )
            ]

    def until_settled(self, job: int, *outcomes: str, dispatching: bool = False) -> None:
        """Wait until a job's attempts ended like this.

        Args:
            job: Its id.
            *outcomes: Of all attempts, in order.
            dispatching: Send later attempts meanwhile.
        """

        def settled() -> bool:
            if dispatching:
                self.dispatch()
            return len(self.attempts(job)) >= len(outcomes)

        eventually(settled, f"job {job} is {outcomes}")
        assert self.attempts(job) == list(outcomes), self.error(job)

    def error(self, job: int) -> str:
        """Return the error of the last attempt."""
        return str(
            self.database.value(
                "select error from pgreact.history where id = %s order by settled_at desc limit 1", job
            )
        )

    def runs(self, column: str = "name") -> list[Any]:
        """Return one column of the runs that began, in order."""
        with self.where_runs.connect() as connection:
            return [row[0] for row in connection.execute(f"select {column} from runs order by began")]

    def overlapping(self) -> int:
        """Count the pairs of whole runs of one job that were in progress at the same moment."""
        return int(
            self.where_runs.value(
                "select count(*) from runs a join runs b on a.id < b.id and a.task_id = b.task_id "
                "and tstzrange(a.began, a.ended) && tstzrange(b.began, b.ended)"
            )
        )

    def until_running(self, task_id: str = "", count: int = 1) -> int:
        """Wait until this many bodies began (with this id); return the process id of the last one."""
        which = f"task_id = '{task_id}'" if task_id else "true"
        self.where_runs.until(f"select count(*) >= {count} from runs where {which}")
        return int(self.where_runs.value(f"select pid from runs where {which} order by began desc limit 1"))

    def close_gate(self) -> None:
        """Close the gate: runs wait in the middle."""
        self._gate.execute("select pg_advisory_lock(%s)", (jobs_app.GATE,))

    def open_gate(self) -> None:
        """Open the gate."""
        self._gate.execute("select pg_advisory_unlock(%s)", (jobs_app.GATE,))

    def consume(self, queue: str) -> None:
        """Let the workers take messages of another queue, too."""
        self._app.control.add_consumer(queue, destination=[worker.name for worker in self.workers])

    def revoke(self, task_id: str, **options: Any) -> None:
        """Revoke a task in all workers."""
        self._app.control.revoke(task_id, **options)

    def kill_worker(self) -> None:
        """Kill the first worker with all of its children, as a power failure would."""
        worker = self.workers.pop(0)
        family = psutil.Process(worker.process.pid).children(recursive=True)
        for process in (*family, psutil.Process(worker.process.pid)):
            process.send_signal(signal.SIGKILL)
        worker.stop()

    def forget(self) -> None:
        """Reset: no jobs, no runs, the gate open."""
        self._gate.execute("select pg_advisory_unlock_all()")
        self.database.run("truncate pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.history")
        self.database.run("update pgreact.queue_setting set lease = '60 s'")
        self.where_runs.run("truncate runs")

    def stop(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.stop()
        self._gate.close()
