"""The runs of jobs in one process: take an attempt, renew its lease while it runs, settle it.

:mod:`pgreact.worker.run` lists the states of a run. A run that goes well takes two statements, those here;
the others are in :mod:`pgreact.worker.lease_renewer`.
"""

import atexit
import functools
import logging
import os
import weakref

from celery.exceptions import SoftTimeLimitExceeded

from pgreact.errors import NotGuarded
from pgreact.worker import counters
from pgreact.worker.lease_renewer import LeaseRenewer
from pgreact.worker.run import Run, Settlement
from pgreact.worker.session import SessionPool
from pgreact.worker.trouble import Trouble, with_retries

START_TIMEOUT = 5.0  # seconds that a message waits for a database that is away
SHUTDOWN_TIMEOUT = 5.0  # seconds that a process which ends may take to send delayed settlements

_log = logging.getLogger("pgreact.worker")


class OtherDatabase(Exception):
    """The message is of a job of another database than the worker's."""

    def __init__(self, run: Run, ours: str) -> None:
        """Name both databases.

        Args:
            run: The run of the message.
            ours: The name of the worker's database, as ``pgreact.database_id`` returns it.
        """
        super().__init__(f"{run}: it comes from database {run.database}, and this worker serves {ours}")
        self.database = run.database


class Jobs:
    """Start and end runs of the jobs of one database. All threads of a process share one."""

    def __init__(self, dsn: str, timeout: float = START_TIMEOUT) -> None:
        """Prepare; the first run connects.

        Args:
            dsn: As libpq reads it. A pooler in transaction mode may stand between.
            timeout: Seconds that a message waits for a database that is away.
        """
        self.timeout = timeout
        self._pool = SessionPool(dsn)
        self._renewer = LeaseRenewer(self._pool)
        self.start_trouble = Trouble("job.start_failed", "job.start_recovered")
        self._database_id: str | None = None  # looked up when first needed
        _instances.add(self)

    @property
    def pool(self) -> SessionPool:
        """The sessions of this process."""
        return self._pool

    @property
    def renewer(self) -> LeaseRenewer:
        """The lease renewer of this process."""
        return self._renewer

    def start(self, run: Run) -> bool:
        """Take the attempt of a run, and renew its lease from now on.

        Returns:
            Whether to run the task. If not, another message runs or ran the attempt, or PostgreSQL cannot be
            asked; then the daemon publishes it again after the lease. Both are logged.

        Raises:
            OtherDatabase: The message is of a job of another database.
        """
        try:
            lease = with_retries(functools.partial(self._take, run), self.timeout)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the task must not run
            self.start_trouble.failed(
                error, f"{run}: cannot be started; the daemon publishes it again after its lease"
            )
            return False
        self.start_trouble.recovered()
        if lease is None:
            self.check_database(run)
            counters.add("messages_dropped")
            _log.info(
                "message.dropped: %s: another message runs or ran it, it expired, or the job was cancelled",
                run,
            )
            return False
        counters.add("started")
        self._pool.limit_by(lease)
        self._pool.max_idle = max(self._pool.max_idle, self._renewer.add(run, lease))
        return True

    def end(self, settlement: Settlement) -> None:
        """Settle the attempt of a run that has ended; if it cannot be settled now, in the background."""
        if settlement.run.pid != os.getpid():
            return  # a process that the body forked has returned here, too; the run goes on in its parent
        self._renewer.remove(settlement.run)
        try:
            with self._pool.session() as session:
                settlement.send(session)
        except SoftTimeLimitExceeded:
            self._renewer.send_later(settlement)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has ended and must be settled
            self._renewer.send_later(settlement, error)
        except BaseException:
            self._renewer.send_later(settlement)  # the process ends
            raise

    def end_later(self, settlement: Settlement) -> None:
        """Settle an attempt in the background; the first settlement of a message counts."""
        self._renewer.send_later(settlement)

    def leave(self, run: Run) -> None:
        """Renew the lease of a run no longer, since the main process settles it."""
        self._renewer.remove(run)

    def close(self) -> None:
        """Send the delayed settlements, and close the connections."""
        self._renewer.stop(SHUTDOWN_TIMEOUT)
        self._pool.close()

    def check_database(self, run: Run) -> None:
        """Make sure that a run is of a job of this database; in doubt, believe it.

        Raises:
            OtherDatabase: It comes from another one.
        """
        if run.database is None:
            return
        if self._database_id is None:
            try:
                with self._pool.session() as session:
                    self._database_id = str(session.execute_pinned("database_id"))
            except NotGuarded:
                return
        if run.database != self._database_id:
            raise OtherDatabase(run, self._database_id)

    def _take(self, run: Run) -> float | None:
        """Return the lease of the attempt in seconds; ``None``: it is not to be run."""
        with self._pool.session() as session:
            lease: float | None = session.execute_pinned(
                "job_start",
                job=run.job,
                claim=run.claim,
                retries=run.retries,
                worker=run.worker,
                publish_s=run.publish_s,
            )
            return lease


_instances: weakref.WeakSet[Jobs] = weakref.WeakSet()


def close_all(**_: object) -> None:
    """Close the jobs of all databases: this process ends."""
    for jobs in list(_instances):
        jobs.close()


def _before_fork() -> None:
    for jobs in list(_instances):
        jobs._renewer.pause()


def _after_fork_in_parent() -> None:
    for jobs in list(_instances):
        jobs._renewer.resume()


def _after_fork_in_child() -> None:
    for jobs in list(_instances):
        jobs._pool.disown()
        jobs._renewer = LeaseRenewer(jobs._pool)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(close_all)
