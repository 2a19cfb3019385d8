-- Runs as its owner, as enqueue does. It inserts in the order of the unique keys, so that two calls with the same keys cannot
-- deadlock. It takes the ids before, in the order of the list, since jobs of a key run in the order of their ids.
create or replace function pgreact.enqueue_many(jobs jsonb) returns table (id bigint, task_id uuid)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    wrong text;
begin
    if jobs is null or jsonb_typeof(jobs) <> 'array' then
        raise exception 'jobs is not a JSON array'
            using errcode = 'invalid_parameter_value',
                hint = 'Write a list of objects like [{"task": "proj.tasks.send_email", "kwargs": {"user_id": 42}}].';
    end if;
    select jsonb_typeof(j) into wrong from jsonb_array_elements(jobs) j where jsonb_typeof(j) <> 'object' limit 1;
    if wrong is not null then
        raise exception 'a job is a JSON %, not an object', wrong
            using errcode = 'invalid_parameter_value', hint = 'Like {"task": "proj.tasks.send_email"}.';
    end if;
    select k into wrong
    from jsonb_array_elements(jobs) j, jsonb_object_keys(j) k
    where k not in ('task', 'args', 'kwargs', 'lane', 'priority', 'run_at', 'key', 'unique_key', 'max_attempts',
        'backoff', 'expires', 'options', 'unique_while', 'task_id', 'max_lost')
    limit 1;
    if wrong is not null then
        raise exception 'a job has no "%"', wrong
            using errcode = 'invalid_parameter_value', hint = 'Use the names of the arguments of pgreact.enqueue.';
    end if;
    return query
    with listed as materialized (
        select j.*, nextval('pgreact.queue_id_seq') as new_id, coalesce(j.task_id, gen_random_uuid()) as new_task_id
        from rows from (jsonb_to_recordset(jobs) as (
            task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, key text, unique_key text,
            max_attempts integer, backoff interval, expires timestamptz, options jsonb, unique_while text, task_id uuid,
            max_lost integer
        )) with ordinality j
    ),
    added as materialized (
        select
            l.ordinality,
            l.unique_key,
            l.new_task_id,
            pgreact.add_job(l.new_id, l.task, l.args, l.kwargs, l.lane, l.priority, l.run_at, l.key, l.unique_key,
                l.max_attempts, l.backoff, l.expires, l.options, l.unique_while, l.new_task_id, l.max_lost) as job
        from listed l
        order by l.unique_key collate "C", l.ordinality
    )
    select a.job, case when a.unique_key is null then a.new_task_id else pgreact.task_id(a.job) end from added a order by a.ordinality;
end
$$;
comment on function pgreact.enqueue_many(jsonb)
    is 'enqueues many jobs, each an object with the arguments of enqueue; returns id and task_id of each, in the same order';
revoke all on function pgreact.enqueue_many(jsonb) from public;
