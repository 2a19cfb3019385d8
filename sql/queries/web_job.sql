-- One job with all columns but those that a monitor may not read. Converts texts that are not UTF-8, and times beyond Python's
-- calendar.
select j.id, j.state, pgreact.readable(j.lane) as lane, pgreact.readable(j.task) as task, pgreact.readable(j.key) as key,
    pgreact.readable(j.unique_key) as unique_key, j.unique_while, j.priority, j.attempt, j.max_attempts, j.lost, j.max_lost,
    extract(epoch from j.backoff)::float8 as backoff, j.task_id, pgreact.readable(j.worker) as worker, j.publishes, j.outcome,
    pgreact.readable(j.error) as error, j.enqueued_at, j.ready_at, j.committed_at, j.claimed_at, j.published_at, j.started_at,
    j.lease_until, j.died_at, case when j.run_at is not null then greatest(least(j.run_at, '9999-12-30Z'), '0001-01-03Z') end as run_at,
    case when j.expires is not null then greatest(least(j.expires, '9999-12-30Z'), '0001-01-03Z') end as expires,
    coalesce(
        (select min(p.id) from pgreact.in_progress p where p.key = j.key and p.id <> j.id),
        (select min(b.id) from pgreact.queue b where b.key = j.key and b.id < j.id)
    ) as blocked_by
from (
    select q.id, q.state, q.lane, q.task, q.key, q.unique_key, q.unique_while, q.priority, q.attempt, q.max_attempts, q.lost,
        q.max_lost, q.backoff, q.task_id, null as worker, null::integer as publishes, null as outcome, q.error, q.enqueued_at,
        q.ready_at, null::timestamptz as committed_at, null::timestamptz as claimed_at, null::timestamptz as published_at,
        null::timestamptz as started_at, null::timestamptz as lease_until, null::timestamptz as died_at, q.run_at, q.expires
    from pgreact.queue q
    where q.id = %(job)s
    union all
    select p.id, 'in_progress', p.lane, p.task, p.key, p.unique_key, p.unique_while, p.priority, p.attempt, p.max_attempts, p.lost,
        p.max_lost, p.backoff, p.task_id, p.worker, p.publishes + (p.published_at is not null)::integer, null, null, p.enqueued_at,
        p.ready_at, p.committed_at, p.claimed_at, p.published_at, p.started_at, p.lease_until, null, p.run_at, p.expires
    from pgreact.in_progress p
    where p.id = %(job)s
    union all
    select d.id, 'dead', d.lane, d.task, d.key, null, null, d.priority, d.attempt, d.max_attempts, null, d.max_lost, d.backoff,
        d.task_id, null, null, d.outcome, d.error, d.enqueued_at, null, null, null, null, null, null, d.died_at, null, null
    from pgreact.dead d
    where d.id = %(job)s
) j
limit 1
