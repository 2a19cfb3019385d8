"""The dispatch task, which pgreact calls after a commit, and the jobs. Nothing here imports pgreact."""

import os
import time

import psycopg

from proj.celery import app

DSN = os.environ.get("PROJ_DSN", "")
LIMIT = 4  # jobs in progress at a time, on all workers together

# Two dispatches may overlap: the second waits here, and then counts the claims of the first.
ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtext('proj.dispatch'))"

CLAIM = """
with next as (
    select id
    from job_queue
    order by id
    limit greatest(0, %s - (select count(*) from in_progress))
    for update skip locked
), claimed as (
    delete from job_queue using next where job_queue.id = next.id
    returning job_queue.id, job_queue.payload
)
insert into in_progress (job_id, payload)
select id, payload from claimed order by id
returning job_id
"""


@app.task
def dispatch_next_available() -> None:
    """Claim a job for each free place, and send these jobs to the workers."""
    with psycopg.connect(DSN) as connection:
        connection.execute(ONE_AT_A_TIME)
        claimed = connection.execute(CLAIM, (LIMIT,)).fetchall()
    # Send after the commit: a job that starts before it does not find its row. A crash right here leaves jobs
    # claimed but not sent; to survive that, send jobs again that stay in in_progress for too long (outbox).
    for (job_id,) in claimed:
        run_job.delay(job_id)


@app.task(
    acks_late=True,  # the broker gives the message of a dead worker to another
    reject_on_worker_lost=True,
    autoretry_for=(Exception,),
    retry_backoff=True,
    max_retries=None,  # a job keeps its place until it is done
)
def run_job(job_id: int) -> None:
    """Do one job and delete its row from in_progress; that commit signals a free place."""
    with psycopg.connect(DSN) as connection:
        # The lock lasts as long as the job runs. A second message for the same job waits here; then the row
        # is gone and the job is done, or the first run has crashed and this one does the job.
        found = connection.execute(
            "select payload, clock_timestamp() from in_progress where job_id = %s for update", (job_id,)
        ).fetchone()
        if found is None:
            return
        payload, started_at = found
        work(payload)
        connection.execute("insert into job_done (job_id, started_at) values (%s, %s)", (job_id, started_at))
        connection.execute("delete from in_progress where job_id = %s", (job_id,))


@app.task
def send_email(user_id: int, seconds: float = 0.05) -> None:
    """Run as a job of pgreact's built-in queue, or as any other Celery task."""
    # select pgreact.enqueue('proj.tasks.send_email', kwargs => '{"user_id": 42}', lane => 'mail');
    print(f"sends an email to user {user_id}")
    time.sleep(seconds)


def work(payload: dict[str, float]) -> None:
    """Stand in for the work of a job."""
    time.sleep(payload.get("seconds", 0))
