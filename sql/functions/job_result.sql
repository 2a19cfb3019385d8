-- One statement reads all tables, so that a job that moves from one to another meanwhile is found. The UUID protects results from
-- roles that guess ids. Cases, by state:
--   ready      waits, for its first or another attempt; or its message is in the broker
--   running    a worker runs it
--   dead       ended without success
--   done       returned
--   failed     an attempt failed, and the dead job was purged, or the waiting one cancelled, since
--   null       no such job, or one that ended without a result
create or replace function pgreact.job_result(job bigint, task_id uuid) returns jsonb
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
with found as (
    select 'ready' as state, q.args, q.kwargs, q.attempt, q.enqueued_at, null::timestamptz as started_at,
        null::timestamptz as finished_at, null as worker, null as outcome, q.error
    from pgreact.queue q
    where q.id = job_result.job and q.task_id = job_result.task_id
    union all
    -- an attempt counts from its start
    select case when p.started_at is null then 'ready' else 'running' end, p.args, p.kwargs,
        p.attempt - case when p.started_at is null then 1 else 0 end, p.enqueued_at, p.started_at, null, p.worker, null, null
    from pgreact.in_progress p
    where p.id = job_result.job and p.task_id = job_result.task_id
    union all
    select 'dead', d.args, d.kwargs, d.attempt, d.enqueued_at, null, d.died_at, null, d.outcome, d.error
    from pgreact.dead d
    where d.id = job_result.job and d.task_id = job_result.task_id
)
select jsonb_build_object(
    'state', coalesce(f.state, case when r.succeeded then 'done' else 'failed' end),
    'args', coalesce(f.args, r.args),
    'kwargs', coalesce(f.kwargs, r.kwargs),
    'attempt', coalesce(f.attempt, r.attempt),
    'enqueued_at', coalesce(f.enqueued_at, r.enqueued_at),
    'started_at', coalesce(r.started_at, f.started_at),
    'last_started_at', coalesce(f.started_at, r.last_started_at),
    'finished_at', case when f.state is null or f.state = 'dead' then coalesce(f.finished_at, r.finished_at) end,
    'worker', f.worker,
    'outcome', f.outcome,
    'error', f.error,
    'kept', r.attempt,
    'value', r.value,
    'errors', coalesce(r.errors, '[]'),
    'workers', coalesce(to_jsonb(r.workers), '[]')
)
from found f
full join (
    select k.* from pgreact.result k where k.job = job_result.job and k.task_id = job_result.task_id
) r on true
$$;
comment on function pgreact.job_result(bigint, uuid)
    is 'returns state, times, errors and value of a job of django.tasks; null: no such job, or it ended without a result';
revoke all on function pgreact.job_result(bigint, uuid) from public;
