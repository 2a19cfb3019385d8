-- Puts a job back into the queue, for its next attempt or for a retry of this one. The caller has deleted its row of in_progress.
create or replace function pgreact.requeue(
    job pgreact.in_progress, run_at timestamptz, error text, ready_at timestamptz default pgreact.clock_now()
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into pgreact.queue (id, state, lane, task, args, kwargs, priority, run_at, key, unique_while,
        attempt, max_attempts, lost, max_lost, backoff, expires, options, enqueued_at, task_id, resume, retrying, error, size, ready_at,
        trace)
    values (job.id, case when run_at > pgreact.clock_now() then 'delayed' else 'ready' end, job.lane, job.task, job.args,
        job.kwargs, job.priority, run_at, job.key, job.unique_while, job.attempt, job.max_attempts, job.lost, job.max_lost,
        job.backoff, job.expires, job.options, job.enqueued_at, job.task_id, job.resume, job.resume is not null, error,
        octet_length(coalesce(job.resume::text, concat(job.args, job.kwargs, job.options))), requeue.ready_at, job.trace);
    if job.key is not null then
        -- a job of the key with a lower id may have been enqueued meanwhile, and be blocked
        perform pgreact.unblock_next(job.key, job.claim_number);
    end if;
    -- A job enqueued meanwhile keeps the unique key, even one of an uncommitted transaction, for which the index would wait.
    if job.unique_key is not null then
        begin
            perform set_config('lock_timeout', '1ms', true);
            update pgreact.queue q set unique_key = job.unique_key where q.id = job.id;
        exception
            when lock_not_available or unique_violation then null;
        end;
    end if;
end
$$;
comment on function pgreact.requeue(pgreact.in_progress, timestamptz, text, timestamptz) is 'puts a job that was in progress back into the queue';
revoke all on function pgreact.requeue(pgreact.in_progress, timestamptz, text, timestamptz) from public;
