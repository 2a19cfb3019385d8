-- The settled attempts of a job, the newest first.
select h.id, pgreact.readable(h.lane) as lane, pgreact.readable(h.task) as task, pgreact.readable(h.key) as key, h.attempt, h.outcome,
    pgreact.readable(h.error) as error, h.task_id, pgreact.readable(h.worker) as worker, h.enqueued_at, h.ready_at, h.committed_at,
    h.claimed_at, h.published_at, h.started_at, h.settled_at,
    case when h.run_at is not null then greatest(least(h.run_at, '9999-12-30Z'), '0001-01-03Z') end as run_at
from pgreact.history h
where h.id = %(job)s
order by h.settled_at desc
limit 100
