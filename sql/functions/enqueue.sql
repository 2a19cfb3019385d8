-- Runs as its owner: who may enqueue needs no right on pgreact's tables.
create or replace function pgreact.enqueue(
    task text,
    args jsonb default '[]',
    kwargs jsonb default '{}',
    lane text default 'default',
    priority integer default 0,
    run_at timestamptz default null,
    key text default null,
    unique_key text default null,
    max_attempts integer default 5,
    backoff interval default '5 s',
    expires timestamptz default null,
    options jsonb default '{}',
    unique_while text default 'queued'
) returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    job pgreact.queue;
    other bigint;
begin
    job.task := enqueue.task;
    job.args := coalesce(enqueue.args, '[]');
    job.kwargs := coalesce(enqueue.kwargs, '{}');
    job.lane := coalesce(enqueue.lane, 'default');
    job.priority := coalesce(enqueue.priority, 0);
    job.run_at := coalesce(enqueue.run_at, moment);
    job.state := case when job.run_at > moment then 'delayed' else 'ready' end;
    job.key := enqueue.key;
    job.unique_key := enqueue.unique_key;
    job.unique_while := coalesce(enqueue.unique_while, 'queued');
    job.max_attempts := coalesce(enqueue.max_attempts, 5);
    job.backoff := coalesce(enqueue.backoff, '5 s');
    job.expires := enqueue.expires;
    job.options := coalesce(enqueue.options, '{}');
    perform pgreact.check_job(job);
    if job.unique_key is not null then
        -- before the insert, too: a row that this transaction inserts and deletes would stand in the way of the other job's
        -- next attempt until it ends
        select p.id into other
        from pgreact.in_progress p
        where p.unique_key = job.unique_key and 'in_progress' in (p.unique_while, job.unique_while);
        if found then
            return other;
        end if;
    end if;
    loop
        insert into pgreact.queue (state, lane, task, args, kwargs, priority, run_at, key, unique_key, unique_while,
            max_attempts, backoff, expires, options, enqueued_at)
        values (job.state, job.lane, job.task, job.args, job.kwargs, job.priority, job.run_at, job.key, job.unique_key,
            job.unique_while, job.max_attempts, job.backoff, job.expires, job.options, moment)
        on conflict (unique_key) where unique_key is not null do nothing
        returning id into job.id;
        if found then
            exit;
        end if;
        select q.id into other from pgreact.queue q where q.unique_key = job.unique_key;
        if found then
            return other;
        end if;
    end loop;
    if job.unique_key is not null then
        -- after the insert: a claim that was moving the other one has ended by now
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
comment on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text
) is 'adds a job when the transaction commits; returns its id, or the id of the one with the same unique_key';
revoke all on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text
) from public;
