-- Runs as its owner, so that a role that enqueues needs no right on pgreact's tables. It inserts a simple job itself: each further
-- function with a SET clause costs a transaction 5 µs, each further expression 1. (One statement that joins all of this is planned
-- again at each call, and costs half as much again.) add_job inserts, or refuses, all other jobs.
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
    max_lost integer default null,
    trace jsonb default null
) returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    moment timestamptz := pgreact.clock_now();
    size integer := coalesce(octet_length(args::text), 2) + coalesce(octet_length(kwargs::text), 2)
        + coalesce(octet_length(options::text), 2);
    route text;
    lasts interval;
    taken text[];
    origin text;
    job bigint;
begin
    select t.queue, t.expires into route, lasts from pgreact.task t where t.name = task;
    select l.tasks, l.origin into taken, origin
    from pgreact.lane l
    where l.name = coalesce(lane, options ->> 'queue', route);
    -- as in check_lane
    if taken is null and coalesce(origin, 'queue') = 'queue' then
        select l.tasks into taken from pgreact.lane l where l.name = 'default';
    end if;
    if pgreact.simple_job(task, args, kwargs, run_at, key, unique_key, max_attempts, backoff, expires, options, unique_while,
            max_lost, trace)
        and size <= 1048576
        and (lane is null or origin is not null)
        and (task <> all (taken)) is not true
    then
        insert into pgreact.queue (id, state, lane, task, args, kwargs, priority, run_at, key, unique_while, max_attempts,
            max_lost, backoff, expires, options, enqueued_at, task_id, size, trace)
        values (
            nextval('pgreact.queue_id_seq'),
            case when run_at > moment then 'delayed' else 'ready' end,
            coalesce(lane, options ->> 'queue', route),
            task,
            coalesce(args, '[]'),
            coalesce(kwargs, '{}'),
            coalesce(priority, 0),
            coalesce(run_at, moment),
            key,
            coalesce(unique_while, 'queued'),
            coalesce(max_attempts, 1),
            max_lost,
            coalesce(backoff, '5 s'),
            coalesce(expires, moment + lasts),
            coalesce(options, '{}'),
            moment,
            coalesce(task_id, gen_random_uuid()),
            size,
            null
        )
        returning queue.id into job;
        return job;
    end if;
    return pgreact.add_job(nextval('pgreact.queue_id_seq'), task, args, kwargs, lane, priority, run_at, key, unique_key,
        max_attempts, backoff, expires, options, unique_while, task_id, max_lost, trace);
end
$$;
comment on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer,
    jsonb
) is 'enqueues a job; returns its id, or the id of the job with the same unique_key. See also pgreact.task_id';
revoke all on function pgreact.enqueue(
    text, jsonb, jsonb, text, integer, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, uuid, integer,
    jsonb
) from public;
