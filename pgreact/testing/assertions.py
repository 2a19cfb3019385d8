"""Assertions about jobs, whose failures say which jobs there were instead, the nearest first."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from pgreact.errors import nearest
from pgreact.queue.job import TaskLike
from pgreact.testing.connection import TestConnection, moment
from pgreact.testing.queue import EnqueuedJob, all_jobs, name_of
from pgreact.testing.settings import connection_or_default

SHOWN = 5  # jobs in a message
TOLERANCE = datetime.timedelta(seconds=1)  # of run_at: the clock moves on between enqueue and assertion
_SUBSETS = {"kwargs", "options"}


def assert_enqueued(
    task: str | TaskLike | None = None,
    *,
    count: int | None = 1,
    connection: object | None = None,
    **expected: Any,
) -> list[EnqueuedJob]:
    """Fail unless there is such a job::

        assert_enqueued(send_mail, kwargs={"order": 42}, lane="mail", run_at=timedelta(hours=1))

    Args:
        task: The task, or its name.
        count: The number of such jobs; ``None``: one at least.
        connection: The test's; see :func:`use`.
        **expected: Attributes of :class:`EnqueuedJob`; what is left out does not matter. ``kwargs`` and
            ``options`` may have more keys in the job. ``run_at`` and ``expires`` are compared to the second,
            and a ``timedelta`` counts from now by the database's clock. ``unittest.mock.ANY`` equals
            anything.

    Returns:
        The jobs that match.

    Raises:
        AssertionError: There are none, or another number.
        TypeError: A keyword is no attribute of a job.
        PgreactError: No connection is known.
    """
    __tracebackhide__ = True
    matching, others, wanted = _compare(task, connection, expected)
    if len(matching) == count or (count is None and matching):
        return matching
    asked = "at least 1" if count is None else f"{count}"
    lines = [f"{len(matching)} such jobs, not {asked}: {_described(wanted)}", *_listed(matching, "such")]
    raise AssertionError("\n".join([*lines, *_nearest(others, wanted)]))


def assert_not_enqueued(
    task: str | TaskLike | None = None, *, connection: object | None = None, **expected: Any
) -> None:
    """Fail if there is such a job; see :func:`assert_enqueued`.

    Raises:
        AssertionError: There is one.
        TypeError: A keyword is no attribute of a job.
        PgreactError: No connection is known.
    """
    __tracebackhide__ = True
    matching, _, wanted = _compare(task, connection, expected)
    if matching:
        lines = [f"{len(matching)} such jobs, not 0: {_described(wanted)}", *_listed(matching, "such")]
        raise AssertionError("\n".join(lines))


@dataclasses.dataclass(frozen=True)
class _Other:
    """A job that does not match, and the names of the attributes that differ."""

    job: EnqueuedJob
    differing: list[str]


def _compare(
    task: str | TaskLike | None, given: object | None, expected: Mapping[str, Any]
) -> tuple[list[EnqueuedJob], list[_Other], dict[str, Any]]:
    known = [field.name for field in dataclasses.fields(EnqueuedJob)]
    for name in expected:
        if name not in known:
            raise TypeError(f'a job has no "{name}"{nearest(name, known)}')
    connection = connection_or_default(given)
    wanted: dict[str, Any] = {} if task is None else {"task": name_of(task)}
    wanted |= {name: _instant(connection, value) for name, value in expected.items()}
    matching: list[EnqueuedJob] = []
    others: list[_Other] = []
    for job in all_jobs(connection):
        differing = [name for name, value in wanted.items() if not _fits(name, value, getattr(job, name))]
        if differing:
            others.append(_Other(job, differing))
        else:
            matching.append(job)
    return matching, others, wanted


def _instant(connection: TestConnection, value: Any) -> Any:
    return moment(connection) + value if isinstance(value, datetime.timedelta) else value


def _fits(name: str, wanted: Any, found: Any) -> bool:
    if wanted == found:  # mock.ANY is equal to anything
        return True
    if isinstance(wanted, datetime.datetime) and isinstance(found, datetime.datetime):
        return wanted.tzinfo is not None and abs(wanted - found) <= TOLERANCE
    if name in _SUBSETS and isinstance(wanted, Mapping):
        return all(key in found and _same(value, found[key]) for key, value in wanted.items())
    return _same(wanted, found)


def _same(wanted: Any, found: Any) -> bool:
    """Return whether an argument is the one wanted: JSON makes lists of tuples, and text of keys."""
    if wanted == found:
        return True
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        texts = {str(key): value for key, value in wanted.items()}
        return texts.keys() == found.keys() and all(_same(value, found[key]) for key, value in texts.items())
    if isinstance(wanted, Sequence) and isinstance(found, list) and not isinstance(wanted, str | bytes):
        return len(wanted) == len(found) and all(map(_same, wanted, found))
    return False


def _described(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in wanted.items()) or "any job"


def _listed(jobs: Sequence[EnqueuedJob], what: str) -> list[str]:
    lines = [f"  {what}: {_line(job)}" for job in jobs[:SHOWN]]
    return [*lines, *([f"  and {len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else [])]


def _nearest(others: list[_Other], wanted: Mapping[str, Any]) -> list[str]:
    """Return lines about the other jobs, first those of the task that differ in the fewest attributes."""
    if not others:
        return ["  there is no other job"]
    ordered = sorted(others, key=lambda other: ("task" in other.differing, len(other.differing)))
    lines = []
    for other in ordered[:SHOWN]:
        lines.append(f"  instead: {_line(other.job)}")
        lines += [
            f"      {name}: {_shown(getattr(other.job, name))}, not {_shown(wanted[name])}"
            for name in other.differing
        ]
    return [*lines, *([f"  and {len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else [])]


def _line(job: EnqueuedJob) -> str:
    call = ", ".join([*map(repr, job.args), *(f"{name}={value!r}" for name, value in job.kwargs.items())])
    return f"job {job.id}, {job.state}: {job.task}({call})"


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else repr(value)
