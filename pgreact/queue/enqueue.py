"""Jobs into the caller's transaction."""

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from pgreact.queue import eager
from pgreact.queue.connections import is_asynchronous, run
from pgreact.queue.job import Enqueued, Job, TaskLike
from pgreact.queue.payload import written


def enqueue(connection: object, job: Job) -> Enqueued | Coroutine[Any, Any, Enqueued]:
    """Enqueue one job; see :func:`pgreact.enqueue`."""
    text = written(job)
    if eager.wanted(job):
        done = eager.run(job)
        return _later(done) if is_asynchronous(connection) else done
    answer = run(connection, "enqueue", text)
    return answer[0] if isinstance(answer, list) else _first(answer)


def enqueue_many(
    connection: object, jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str]
) -> list[Enqueued] | Coroutine[Any, Any, list[Enqueued]]:
    """Enqueue many jobs by one statement; see :func:`pgreact.enqueue_many`."""
    if isinstance(jobs, str | Mapping):
        raise TypeError(f"jobs is of type {type(jobs).__name__}, not a list of jobs")
    texts: list[str] = []
    at_once: dict[int, Job] = {}
    for place, given in enumerate(jobs):
        try:
            job = _job(given)
            text = written(job)
            if eager.wanted(job):
                at_once[place] = job
            else:
                texts.append(text)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"jobs[{place}]: {error}") from None
    done = {place: eager.run(job) for place, job in at_once.items()}
    if done and not texts:
        ran = list(done.values())
        return _later(ran) if is_asynchronous(connection) else ran
    answer = run(connection, "enqueue_many", f"[{','.join(texts)}]")
    if not done:
        return answer
    return _merged(answer, done) if isinstance(answer, list) else _merged_later(answer, done)


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


def _merged(enqueued: list[Enqueued], done: Mapping[int, Enqueued]) -> list[Enqueued]:
    """Put what ran at once where it was in the list."""
    found = list(enqueued)
    for place, ran in sorted(done.items()):
        found.insert(place, ran)
    return found


async def _merged_later(
    enqueued: Coroutine[Any, Any, list[Enqueued]], done: Mapping[int, Enqueued]
) -> list[Enqueued]:
    return _merged(await enqueued, done)


async def _later(done: Any) -> Any:
    return done


async def _first(jobs: Coroutine[Any, Any, list[Enqueued]]) -> Enqueued:
    return (await jobs)[0]
