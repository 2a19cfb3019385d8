-- A worker calls this when the task has ended, before it settles the attempt. It deletes two expired results for each that it writes,
-- so that their number stays bounded without a daemon. Cases:
--   the attempt is in progress           its row is written, or continued after an earlier attempt: true
--   the attempt has ended (lost, say)    nothing is written: false
create or replace function pgreact.store_result(
    job bigint,
    claim_id uuid,
    value jsonb,
    error jsonb,
    retention interval
) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    moment timestamptz := pgreact.clock_now();
begin
    delete from pgreact.result r
    where (r.job, r.task_id) in (
        select e.job, e.task_id
        from pgreact.result e
        where e.expires_at < moment
        order by e.expires_at
        limit 2
        for update skip locked
    );
    insert into pgreact.result as r (job, task_id, args, kwargs, attempt, succeeded, value, errors, workers, enqueued_at,
        started_at, last_started_at, finished_at, expires_at)
    select p.id, p.task_id, p.args, p.kwargs, p.attempt, error is null, store_result.value,
        case when error is null then '[]' else jsonb_build_array(error) end, array[coalesce(p.worker, '')], p.enqueued_at,
        p.started_at, p.started_at, moment, moment + retention
    from pgreact.in_progress p
    where p.id = store_result.job and p.claim_id = store_result.claim_id and p.started_at is not null
    on conflict on constraint result_pkey do update
    set attempt = excluded.attempt,
        succeeded = excluded.succeeded,
        value = excluded.value,
        errors = r.errors || excluded.errors,
        workers = r.workers || excluded.workers,
        last_started_at = excluded.last_started_at,
        finished_at = excluded.finished_at,
        expires_at = excluded.expires_at;
    return found;
end
$$;
comment on function pgreact.store_result(bigint, uuid, jsonb, jsonb, interval)
    is 'keeps what the task of an attempt returned, or its error, for a time; false: the attempt is not in progress';
revoke all on function pgreact.store_result(bigint, uuid, jsonb, jsonb, interval) from public;
