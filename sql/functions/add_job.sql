-- The common part of enqueue and enqueue_many. The caller gives the id, since enqueue_many inserts in another order than its
-- list's. Cases: the job is inserted; or a job of the same unique_key waits, or is in progress where unique_while says so, and
-- its id is returned.
create or replace function pgreact.add_job(
    id bigint,
    task text,
    args jsonb,
    kwargs jsonb,
    lane text,
    priority integer,
    run_at timestamptz,
    key text,
    unique_key text,
    max_attempts integer,
    backoff interval,
    expires timestamptz,
    options jsonb,
    unique_while text,
    task_id uuid,
    max_lost integer,
    trace jsonb
) returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := pgreact.clock_now();
    job pgreact.queue;
    other bigint;
    routed pgreact.task;
begin
    job.id := add_job.id;
    job.task := add_job.task;
    job.args := coalesce(add_job.args, '[]');
    job.kwargs := coalesce(add_job.kwargs, '{}');
    job.priority := coalesce(add_job.priority, 0);
    job.run_at := coalesce(add_job.run_at, moment);
    job.state := case when job.run_at > moment then 'delayed' else 'ready' end;
    job.key := add_job.key;
    job.unique_key := add_job.unique_key;
    job.expires := add_job.expires;
    job.options := coalesce(add_job.options, '{}');
    job.task_id := coalesce(add_job.task_id, gen_random_uuid());
    if add_job.trace is not null or current_setting('pgreact.traceparent', true) <> '' then
        job.trace := pgreact.trace_context(add_job.trace);
    end if;
    job.size := pgreact.check_job(job, add_job.max_attempts, add_job.max_lost, add_job.backoff, add_job.unique_while);
    job.unique_while := coalesce(add_job.unique_while, 'queued');
    job.max_attempts := coalesce(add_job.max_attempts, 1);
    job.max_lost := add_job.max_lost;
    job.backoff := coalesce(add_job.backoff, '5 s');
    select t.* into routed from pgreact.task t where t.name = job.task;
    job.lane := coalesce(add_job.lane, job.options ->> 'queue', routed.queue);
    perform pgreact.check_lane(job.lane, job.task, job.options, add_job.lane is not null);
    if job.options ? 'expires' then
        job.expires := coalesce(job.expires, pgreact.expiry(job.options, moment));
        job.options := job.options - 'expires';
    else
        job.expires := coalesce(job.expires, moment + routed.expires);
    end if;
    if job.unique_key is not null then
        -- Checked before the insert, too: a row that this transaction inserts and deletes would block the unique key for the
        -- other job's next attempt until the transaction ends.
        select p.id into other
        from pgreact.in_progress p
        where p.unique_key = job.unique_key and 'in_progress' in (p.unique_while, job.unique_while);
        if found then
            return other;
        end if;
    end if;
    loop
        insert into pgreact.queue (id, state, lane, task, args, kwargs, priority, run_at, key, unique_key, unique_while,
            max_attempts, max_lost, backoff, expires, options, enqueued_at, task_id, size, trace)
        values (job.id, job.state, job.lane, job.task, job.args, job.kwargs, job.priority, job.run_at, job.key,
            job.unique_key, job.unique_while, job.max_attempts, job.max_lost, job.backoff, job.expires, job.options, moment,
            job.task_id, job.size, job.trace)
        on conflict (unique_key) where unique_key is not null do nothing;
        if found then
            exit;
        end if;
        select q.id into other from pgreact.queue q where q.unique_key = job.unique_key;
        if found then
            return other;
        end if;
    end loop;
    if job.unique_key is not null then
        -- Checked after the insert: a claim that was moving the other job has ended by now.
        select p.id into other
        from pgreact.in_progress p
        where p.unique_key = job.unique_key and 'in_progress' in (p.unique_while, job.unique_while);
        if found then
            delete from pgreact.queue q where q.id = job.id;
            return other;
        end if;
    end if;
    return job.id;
end
$$;
comment on function pgreact.add_job(
    bigint, text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer,
    jsonb
) is 'inserts a job under this id; returns the id, or that of the job with the same unique_key';
revoke all on function pgreact.add_job(
    bigint, text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer,
    jsonb
) from public;
