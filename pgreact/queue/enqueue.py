"""Jobs into the caller's transaction."""

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from pgreact.queue.connections import run
from pgreact.queue.job import Job, TaskLike
from pgreact.queue.written import written


def enqueue(connection: object, job: Job) -> int | Coroutine[Any, Any, int]:
    """Enqueue one job; see :func:`pgreact.enqueue`."""
    answer = run(connection, "enqueue", written(job))
    return answer[0] if isinstance(answer, list) else _first(answer)


def enqueue_many(
    connection: object, jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str]
) -> list[int] | Coroutine[Any, Any, list[int]]:
    """Enqueue many jobs by one statement; see :func:`pgreact.enqueue_many`."""
    if isinstance(jobs, str | Mapping):
        raise TypeError(f"jobs is of type {type(jobs).__name__}, not a list of jobs")
    texts = []
    for place, job in enumerate(jobs):
        try:
            texts.append(written(_job(job)))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"jobs[{place}]: {error}") from None
    return run(connection, "enqueue_many", f"[{','.join(texts)}]")


def _job(given: Job | Mapping[str, Any] | TaskLike | str) -> Job:
    if isinstance(given, Job):
        return given
    if not isinstance(given, Mapping) or "subtask_type" in given:
        return Job(given)  # a name, a task or a signature, with nothing else to say
    known = Job.__dataclass_fields__
    for name in given:
        if name not in known:
            raise TypeError(f'no "{name}"; a job has {", ".join(known)}')
    if "task" not in given:
        raise TypeError('it has no "task"')
    return Job(**given)


async def _first(ids: Coroutine[Any, Any, list[int]]) -> int:
    return (await ids)[0]
