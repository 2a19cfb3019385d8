"""A bundle in the worker's main process, which does nothing for each job as long as nobody asks for one.

The text of the bundle is parsed when something concerns single jobs: revoked tasks, events, a command about
a task's id, the death of the child.
"""

from typing import Any

from celery import signals
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, Terminated
from celery.worker import state
from celery.worker.request import Request

from pgreact.broker.message_headers import JOBS, TASK, parse_count
from pgreact.postgres.errors import describe
from pgreact.worker import bundle_events
from pgreact.worker.bundle import BundledJob, Unreadable, keeps_failure, read_bundle
from pgreact.worker.bundle_settlements import AbandonedBundle
from pgreact.worker.bundle_task import SKIPPED
from pgreact.worker.database import databases
from pgreact.worker.headers import header
from pgreact.worker.request import abandoning_request, log
from pgreact.worker.run import Run, abandoned, error_text, worker_name


class BundleRequest(abandoning_request(Request)):  # type: ignore[misc]
    """The request of a bundle."""

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self._headers = Context(self.request_dict)
        try:
            self.count = parse_count(header(self._headers, JOBS))
        except ValueError as error:
            raise InvalidTaskError(f"its header {JOBS}: {error}") from None
        text = self.args
        if not (isinstance(text, list | tuple) and len(text) == 1 and isinstance(text[0], str)):
            raise InvalidTaskError("a bundle whose arguments are not one text")
        self.request_dict["args"] = ()  # the child decodes the body: the pipe need not carry the text twice
        self._jobs: list[BundledJob] | None = None
        self._prepared = False
        self._abandoned = False
        self._terminated: list[BundledJob] = []  # jobs that were revoked while the bundle ran

    @property
    def jobs(self) -> list[BundledJob]:
        """The jobs of the bundle; none if its text cannot be read, which its run reports."""
        if self._jobs is None:
            try:
                self._jobs = read_bundle(self.args, self.count)
            except Unreadable:
                self._jobs = []
        return self._jobs

    @property
    def job_task(self) -> Any:
        """The task of the jobs."""
        return self.app.tasks[header(self._headers, TASK)]

    def context_of(self, job: BundledJob) -> Context:
        """Return the request of a job, as far as results and signals need it."""
        own = {key: value for key, value in self.request_dict.items() if key not in {"args", "kwargs", JOBS}}
        own |= {"id": job.task_id, "root_id": job.task_id, "headers": job.headers(), **job.headers()}
        return Context(own)

    def revoked(self) -> bool:
        """Return whether not to run the bundle. Celery asks before it hands it to the pool."""
        if super().revoked():
            return True
        if not self._prepared:
            self._prepared = True
            self._leave_out_revoked()
            if self._has_events:
                self.request_dict[bundle_events.WANTED] = True
                bundle_events.send_received(self.eventer, self.jobs, self.name)
        return False

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what ``inspect active`` shows."""
        return {**super().info(safe=safe), "args": f"({self.count} jobs)"}

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Count the jobs as Celery counts tasks."""
        super().on_accepted(pid, time_accepted)
        state.total_count.update({self.name: self.count - 1})
        state.all_total_count[0] += self.count - 1

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Send the events of the jobs, once the bundle has ended; none of the bundle itself."""
        if type == "task-succeeded" and self._has_events and isinstance(fields.get("result"), list):
            bundle_events.send_records(self.eventer, self.jobs, fields["result"])

    def terminate_job(self, job: BundledJob, pool: Any, signal: Any = None) -> None:
        """End the child that runs the bundle: a job of it was revoked."""
        self._terminated.append(job)
        self.terminate(pool, signal=signal)

    @property
    def _has_events(self) -> bool:
        return bundle_events.are_wanted(self.eventer) and self.job_task.send_events

    def _leave_out_revoked(self) -> None:
        if not len(state.revoked):
            return
        found = [job for job in self.jobs if job.task_id in state.revoked]
        for job in found:
            log.info("Discarding revoked task: %s[%s]", self.name, job.task_id)
            self._announce_job_revoked(job, terminated=False, signum=None)
        if found:
            self.request_dict[SKIPPED] = [job.id for job in found]

    def _announce_job_revoked(self, job: BundledJob, *, terminated: bool, signum: Any) -> None:
        """Tell the result backend and the signal's receivers; ours abandons a job that was not terminated."""
        task, context = self.job_task, self.context_of(job)
        if self._has_events:
            self.eventer.send(
                "task-revoked", uuid=job.task_id, terminated=terminated, signum=signum, expired=False
            )
        try:
            task.backend.mark_as_revoked(
                job.task_id,
                "terminated" if terminated else "revoked",
                request=context,
                store_result=keeps_failure(task, context),
            )
        except Exception as error:  # noqa: BLE001 - it must not end the worker
            log.warning(
                "bundle.failed: task %s: its result cannot be stored: %s", job.task_id, describe(error)
            )
        signals.task_revoked.send(
            sender=task, request=context, terminated=terminated, signum=signum, expired=False
        )

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        super()._announce_revoked(reason, terminated, signum, expired)
        if terminated:
            for job in self._terminated:
                self._announce_job_revoked(job, terminated=True, signum=signum)
        else:
            self._pgreact_abandon("lost", Terminated(reason))  # nothing has begun: all go back to the queue

    def _pgreact_abandon(self, outcome: str, error: BaseException) -> None:
        """Abandon the jobs once the child has ended; the first call counts."""
        database = databases.get(self.app)
        if database is None or self._abandoned:
            return
        self._abandoned = True
        text = error_text(error, frames=0)
        worker, pid = worker_name(self.hostname, self.worker_pid), self.worker_pid
        if outcome == "revoked":
            outcome = "lost"  # of the others: they are repeated
        revoked = {job.id for job in self._terminated}
        try:
            for job in self._terminated:
                run = Run(job.id, job.claim, 0, worker, job.task_id)
                database.jobs.end_later(abandoned(run, "revoked", text, pid))
            rest = [job for job in self.jobs if job.id not in revoked]
            if rest:
                database.jobs.renewer.send_later(AbandonedBundle(rest, worker, outcome, text, pid))
        except Exception as failure:  # noqa: BLE001 - it must not end the worker
            log.warning("settlement.failed: task %s: %s: %s", self.id, outcome, describe(failure))


class BundledRequest:
    """A job of a bundle, as Celery's remote-control commands find it by its task's id."""

    def __init__(self, bundle: BundleRequest, job: BundledJob) -> None:
        """Take a job.

        Args:
            bundle: Its bundle.
            job: The job.
        """
        self.id = job.task_id
        self.name = bundle.name
        self.task = bundle.job_task
        self._bundle = bundle
        self._job = job

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the child that runs it."""
        self._bundle.terminate_job(self._job, pool, signal)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what ``inspect query_task`` shows."""
        return {
            **self._bundle.info(safe=safe), "id": self.id, "args": self._job.args, "kwargs": self._job.kwargs
        }  # fmt: skip
