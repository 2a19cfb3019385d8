"""A bundle: the jobs that share a message, as the leader wrote them, and how many to begin together."""

import json
import re
from typing import Any, NamedTuple

from celery.app.task import Context, get_actual_ignore_result  # type: ignore[attr-defined]

from pgreact.broker.message_headers import CLAIM, JOB, parse_count

BUNDLE_TASK = "pgreact.bundle"  # the task by which a worker runs a bundle
SUB_BATCH = 0.02  # seconds that the jobs begun by one statement last together, by the estimate

_CLAIMS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MAX_ID = 2**63


class Unreadable(ValueError):
    """The text of a bundle is not what a leader writes."""


class BundledJob(NamedTuple):
    """A job of a bundle, as its message has it."""

    id: int
    claim: str  # the UUID of the attempt
    task_id: str
    attempt: int
    again: bool  # another attempt follows if this one fails
    args: str  # JSON, read when the job is about to begin: an error in it concerns this job alone
    kwargs: str

    def headers(self) -> dict[str, object]:
        """Return the headers that name the attempt, as in a message of its own."""
        return {JOB: self.id, CLAIM: self.claim}


def read_bundle(args: object, count: object = None) -> list[BundledJob]:
    """Return the jobs of a bundle.

    Args:
        args: The arguments of the message: one text.
        count: The header with their number; ``None``: not checked.

    Raises:
        Unreadable: They are not a bundle.
    """
    try:
        texts: list[Any] = list(args)  # type: ignore[call-overload]
        (text,) = texts
        jobs = [BundledJob(*element) for element in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"not the text of a bundle: {error}") from error
    if not all(_is_fit(job) for job in jobs):
        raise Unreadable("not the text of a bundle: a job with a value of another kind")
    if not jobs or len({job.id for job in jobs}) < len(jobs):
        raise Unreadable("a bundle without jobs, or with a job that comes twice")
    if count is not None and parse_count(count) != len(jobs):
        raise Unreadable(f"a bundle of {len(jobs)} jobs, and not of {count} as its header says")
    return jobs


def _is_fit(job: BundledJob) -> bool:
    return (
        type(job.id) is int
        and 0 < job.id < _MAX_ID
        and type(job.claim) is str
        and _CLAIMS.fullmatch(job.claim) is not None
        and type(job.task_id) is str
        and type(job.attempt) is int
        and type(job.args) is str
        and type(job.kwargs) is str
    )


def keeps_failure(task: Any, request: Context) -> bool:
    """Return whether the result backend keeps the failure of a job, as for a message of its own.

    Args:
        task: The job's task.
        request: The job's.
    """
    return bool(not get_actual_ignore_result(task, request) or task.store_errors_even_if_ignored)


class Pace:
    """How many jobs of one task to begin together, by what the last ones took in this process."""

    def __init__(self) -> None:
        """Begin with one."""
        self.size = 1
        self._each = 0.0  # seconds of a job, the estimate

    def ran(self, count: int, seconds: float) -> None:
        """Learn from the jobs that were begun together.

        The estimate follows longer jobs at once, and shorter ones slowly. The size at most doubles.

        Args:
            count: How many ran.
            seconds: How long they took together.
        """
        each = seconds / count
        self._each = max(each, 0.7 * self._each + 0.3 * each)
        fitting = int(SUB_BATCH / self._each) if self._each > 0 else self.size * 2
        self.size = max(1, min(fitting, max(self.size, 2 * count)))


_paces: dict[str, Pace] = {}


def pace_of(task: str) -> Pace:
    """Return the pace of a task in this process."""
    return _paces.get(task) or _paces.setdefault(task, Pace())


def as_array(values: Any) -> str:
    """Return numbers or UUIDs as the text of a PostgreSQL array; the driver would take longer."""
    return "{" + ",".join(map(str, values)) + "}"
