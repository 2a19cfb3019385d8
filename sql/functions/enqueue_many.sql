create or replace function pgreact.enqueue_many(jobs jsonb) returns setof bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
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
        'backoff', 'expires', 'options', 'unique_while')
    limit 1;
    if wrong is not null then
        raise exception 'a job has no "%"', wrong
            using errcode = 'invalid_parameter_value', hint = 'Names are those of the arguments of pgreact.enqueue.';
    end if;
    return query
    select pgreact.enqueue(j.task, j.args, j.kwargs, j.lane, j.priority, j.run_at, j.key, j.unique_key, j.max_attempts,
        j.backoff, j.expires, j.options, j.unique_while)
    from rows from (jsonb_to_recordset(jobs) as (
        task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, key text, unique_key text,
        max_attempts integer, backoff interval, expires timestamptz, options jsonb, unique_while text
    )) with ordinality j
    order by j.ordinality;
end
$$;
comment on function pgreact.enqueue_many(jsonb)
    is 'adds many jobs, each an object with the arguments of enqueue; returns their ids in the same order';
revoke all on function pgreact.enqueue_many(jsonb) from public;
