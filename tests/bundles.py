"""Bundles as the leader sends them, for workers of a test's cluster."""

import json
from typing import Any
from uuid import uuid4

from celery import Celery

from pgreact.broker.message_headers import JOB_TASK
from tests.harness import eventually
from tests.jobs_cluster import Cluster


def element(job: dict[str, Any]) -> list[Any]:
    """Return a claimed job as the text of a bundle has it."""
    return [
        job["id"],
        job["claim_id"],
        job["task_id"],
        job["attempt"],
        job["again"],
        job["args"],
        job["kwargs"],
    ]


def post_bundle(
    cluster: Cluster, jobs: list[dict[str, Any]], *, copies: int = 1, text: str | None = None, **more: Any
) -> str:
    """Send claimed jobs of one task as one message; return its id.

    Args:
        cluster: Which has the jobs.
        jobs: As claimed.
        copies: So many messages.
        text: In place of that of the jobs.
        **more: Options of ``send_task``; its headers replace those of the bundle.
    """
    task = jobs[0]["task"]
    headers = {"pgreact_jobs": len(jobs), "pgreact_task": task, **more.pop("headers", {})}
    body = json.dumps([element(job) for job in jobs]) if text is None else text
    options = {"queue": cluster.queue, "shadow": task, **more, "headers": headers}
    bundle = str(uuid4())
    app = Celery("sender", broker=cluster.broker, set_as_current=False)
    for _ in range(copies):
        app.send_task(JOB_TASK, [body], {}, task_id=bundle, **options)
    return bundle


def run_bundle(cluster: Cluster, *calls: tuple[Any, ...], sql: str = "", **more: Any) -> list[dict[str, Any]]:
    """Enqueue jobs, claim them and send them as one bundle; return them as claimed, in order.

    Args:
        cluster: Whose workers run them.
        *calls: The task with its positional arguments, and at the end a dict of the others, if any.
        sql: More arguments of ``pgreact.enqueue``.
        **more: Of :func:`post_bundle`.
    """
    jobs = claim_jobs(cluster, *calls, sql=sql)
    post_bundle(cluster, jobs, **more)
    return jobs


def claim_jobs(cluster: Cluster, *calls: tuple[Any, ...], sql: str = "") -> list[dict[str, Any]]:
    """Enqueue jobs and claim them; return them in order."""
    for task, *args in calls:
        kwargs = args.pop() if args and isinstance(args[-1], dict) else {}
        cluster.enqueue(task, *args, sql=sql, **kwargs)
    return sorted(cluster.claim(), key=lambda job: job["id"])


def untouched(cluster: Cluster, jobs: list[dict[str, Any]]) -> bool:
    """Return whether jobs wait in the queue, without a trace of their claim."""
    with cluster.database.connect() as connection:
        rows = connection.execute(
            "select q.id, q.attempt, q.lost from pgreact.queue q where q.id = any (%s) order by q.id",
            ([job["id"] for job in jobs],),
        ).fetchall()
        ended = connection.execute(
            "select 1 from pgreact.history where id = any (%s)", ([job["id"] for job in jobs],)
        ).fetchall()
    return rows == [(job["id"], 0, 0) for job in jobs] and not ended


def until_untouched(cluster: Cluster, jobs: list[dict[str, Any]]) -> None:
    """Wait until jobs are back in the queue."""
    eventually(lambda: untouched(cluster, jobs), "they are back in the queue")
