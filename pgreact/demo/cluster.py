"""The demo's cluster: PostgreSQL, a broker on it, a Celery worker and two daemons."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from pgreact.demo.guard import Guard
from pgreact.demo.journal import Journal
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.demo.process import Process
from pgreact.errors import PgreactError
from pgreact.postgres.queries import folder

DAEMONS = ("daemon A", "daemon B")
WORKER = "worker"
WORKER_PROCESSES = 5  # as many as the example's limit of jobs, and one for the dispatcher


class Cluster:
    """All processes of an application; the end of the ``with`` block removes them."""

    def __init__(self, journal: Journal, config: Path | None = None) -> None:
        """Choose the parts; start nothing.

        Args:
            journal: Receives the events of all processes.
            config: Of pgreact; by default that of the example application.

        Raises:
            PgreactError: A package or PostgreSQL is missing; says how to get it.
        """
        if importlib.util.find_spec("pgmq") is None:
            raise PgreactError('the demo needs more packages: pip install "pgreact[demo]"')
        self.example = folder("examples/plain")
        self._config = config or self.example / "pgreact.toml"
        self.daemons: dict[str, Process] = {}
        self._worker: Process | None = None
        self._journal = journal
        # the demo reads commit times from PostgreSQL
        self.postgres = EmbeddedPostgres(settings={"track_commit_timestamp": "on"})
        self._stack = contextlib.ExitStack()  # what to end, last started first
        self._guard: Guard | None = None

    @property
    def dsn(self) -> str:
        """DSN of the database, which application and broker share."""
        return self.postgres.dsn()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.postgres)
            self._guard = stack.enter_context(Guard())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def make_tables(self) -> None:
        """Create the tables of the application and of the broker."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute((self.example / "schema.sql").read_bytes())
        self.make_broker()

    def make_broker(self) -> None:
        """Create the tables of the broker."""
        from pgmq.install import install_pgmq_from_sql

        install_pgmq_from_sql(dsn=self.dsn)

    def apply(self) -> list[str]:
        """Run ``pgreact apply`` and return its output by lines.

        Raises:
            PgreactError: The command failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "pgreact", "apply"],
            env=self._environ(),
            cwd=self.example,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode:
            raise PgreactError(f"pgreact apply failed:\n{done.stderr.strip()}")
        return done.stdout.splitlines()

    def start_worker(self) -> None:
        """Start a Celery worker; the journal gets ``worker.ready``."""
        options = ["--loglevel=INFO", f"--concurrency={WORKER_PROCESSES}"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # SIGKILL, since a warm shutdown takes seconds and no job is left
        self._worker = self._start(
            WORKER, ["celery", "-A", "proj.celery:app", "worker", *options, *quiet], timeout=0
        )

    def start_daemon(self, name: str) -> None:
        """Start a daemon under this name."""
        options = ["--log-format", "json", "--log-level", "debug"]
        self.daemons[name] = self._start(name, ["pgreact", "listen", *options], timeout=5)

    def kill_child(self, pid: int) -> float:
        """Kill one process of the worker's pool; return the time in seconds since 1970.

        Raises:
            PgreactError: The process is not of the pool, or has ended.
        """
        assert self._worker is not None
        try:
            if os.getpgid(pid) != self._worker.pid or pid == self._worker.pid:
                raise PgreactError(f"process {pid} is not the worker's")
            at = time.time()
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            raise PgreactError(f"the worker's process {pid} ended before it was killed") from None
        return at

    def _start(self, name: str, command: list[str], timeout: float) -> Process:
        assert self._guard is not None
        process = Process(
            name,
            [sys.executable, "-m", *command],
            environ=self._environ(),
            cwd=self.example,
            journal=self._journal,
            guard=self._guard,
        )
        self._stack.callback(process.stop, timeout)
        return process

    def _environ(self) -> dict[str, str]:
        # the user's own settings of pgreact, PostgreSQL and Celery must not reach the demo
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "CELERY_"))}
        return {
            **inherited,
            "PGREACT_CONFIG": str(self._config),
            "PGREACT_DSN": self.dsn,
            "PROJ_DSN": self.dsn,
            "PROJ_BROKER_URL": self.dsn.replace("postgresql://", "pgmq://", 1),
        }
