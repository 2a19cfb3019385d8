-- Runs as its owner, so that a role that enqueues needs no right on pgreact's tables.
create or replace function pgreact.enqueue(
    task text,
    args jsonb default '[]',
    kwargs jsonb default '{}',
    lane text default null,
    priority integer default 0,
    run_at timestamptz default null,
    key text default null,
    unique_key text default null,
    max_attempts integer default 1,
    backoff interval default '5 s',
    expires timestamptz default null,
    options jsonb default '{}',
    unique_while text default 'queued',
    task_id uuid default null,
    max_lost integer default null
) returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pgreact.add_job(nextval('pgreact.queue_id_seq'), task, args, kwargs, lane, priority, run_at, key, unique_key,
        max_attempts, backoff, expires, options, unique_while, task_id, max_lost);
end
$$;
comment on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer
) is 'enqueues a job; returns its id, or the id of the job with the same unique_key. See also pgreact.task_id';
revoke all on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer
) from public;
