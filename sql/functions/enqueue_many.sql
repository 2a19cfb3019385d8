-- Runs as its owner, as enqueue does. One statement inserts the simple jobs, and calls add_job for the others, in the order of the
-- unique keys, so that two calls with the same keys cannot deadlock. It takes the ids before, in the order of the list, since jobs
-- of a key run in the order of their ids.
create or replace function pgreact.enqueue_many(jobs jsonb) returns table (id bigint, task_id uuid)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    known constant text[] := '{task,args,kwargs,lane,priority,run_at,key,unique_key,max_attempts,backoff,expires,options,
        unique_while,task_id,max_lost,trace}';
    wrong text;
    moment timestamptz := pgreact.clock_now();
begin
    if jobs is null or jsonb_typeof(jobs) <> 'array' then
        raise exception 'jobs is not a JSON array'
            using errcode = 'invalid_parameter_value',
                hint = 'Write a list of objects like [{"task": "proj.tasks.send_email", "kwargs": {"user_id": 42}}].';
    end if;
    if exists (
        select
        from jsonb_array_elements(jobs) j
        where case when jsonb_typeof(j) = 'object' then j - known <> '{}' else true end
    ) then
        select jsonb_typeof(j) into wrong from jsonb_array_elements(jobs) j where jsonb_typeof(j) <> 'object' limit 1;
        if wrong is not null then
            raise exception 'a job is a JSON %, not an object', wrong
                using errcode = 'invalid_parameter_value', hint = 'Like {"task": "proj.tasks.send_email"}.';
        end if;
        select k into wrong from jsonb_array_elements(jobs) j, jsonb_object_keys(j - known) k limit 1;
        raise exception 'a job has no "%"', wrong
            using errcode = 'invalid_parameter_value', hint = 'Use the names of the arguments of pgreact.enqueue.';
    end if;
    return query
    with listed as materialized (
        select
            j.*,
            nextval('pgreact.queue_id_seq') as new_id,
            coalesce(j.task_id, gen_random_uuid()) as new_task_id,
            coalesce(octet_length(j.args::text), 2) + coalesce(octet_length(j.kwargs::text), 2)
                + coalesce(octet_length(j.options::text), 2) as size
        from rows from (jsonb_to_recordset(jobs) as (
            task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, key text, unique_key text,
            max_attempts integer, backoff interval, expires timestamptz, options jsonb, unique_while text, task_id uuid,
            max_lost integer, trace jsonb
        )) with ordinality j
    ),
    -- as in enqueue
    simple as (
        insert into pgreact.queue as q (id, state, lane, task, args, kwargs, priority, run_at, key, unique_while, max_attempts,
            max_lost, backoff, expires, options, enqueued_at, task_id, size, trace)
        select
            j.new_id,
            case when j.run_at > moment then 'delayed' else 'ready' end,
            coalesce(j.lane, j.options ->> 'queue', t.queue),
            j.task,
            coalesce(j.args, '[]'),
            coalesce(j.kwargs, '{}'),
            coalesce(j.priority, 0),
            coalesce(j.run_at, moment),
            j.key,
            coalesce(j.unique_while, 'queued'),
            coalesce(j.max_attempts, 1),
            j.max_lost,
            coalesce(j.backoff, '5 s'),
            coalesce(j.expires, moment + t.expires),
            coalesce(j.options, '{}'),
            moment,
            j.new_task_id,
            j.size,
            null
        from listed j
        left join pgreact.task t on t.name = j.task
        left join pgreact.lane l on l.name = coalesce(j.lane, j.options ->> 'queue', t.queue)
        where pgreact.simple_job(j.task, j.args, j.kwargs, j.run_at, j.key, j.unique_key, j.max_attempts, j.backoff, j.expires,
                j.options, j.unique_while, j.max_lost, j.trace)
            and j.size <= 1048576
            and (j.lane is null or l.name is not null)
            and (j.task <> all (case
                when l.tasks is null and coalesce(l.origin, 'queue') = 'queue' then
                    (select d.tasks from pgreact.lane d where d.name = 'default')
                else l.tasks
            end)) is not true
        returning q.id
    ),
    added as materialized (
        select
            l.ordinality,
            pgreact.add_job(l.new_id, l.task, l.args, l.kwargs, l.lane, l.priority, l.run_at, l.key, l.unique_key,
                l.max_attempts, l.backoff, l.expires, l.options, l.unique_while, l.new_task_id, l.max_lost, l.trace) as job
        from listed l
        where not exists (select from simple s where s.id = l.new_id)
        order by l.unique_key collate "C", l.ordinality
    )
    select
        coalesce(a.job, l.new_id),
        case when l.unique_key is null then l.new_task_id else pgreact.task_id(a.job) end
    from listed l
    left join added a on a.ordinality = l.ordinality
    order by l.ordinality;
end
$$;
comment on function pgreact.enqueue_many(jsonb)
    is 'enqueues many jobs, each an object with the arguments of enqueue; returns id and task_id of each, in the same order';
revoke all on function pgreact.enqueue_many(jsonb) from public;
