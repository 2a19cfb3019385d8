-- What can be known to be wrong is refused here, where somebody looks at the error.
create or replace function pgreact.check_job(job pgreact.queue) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    wrong text;
    known constant text[] := array['queue', 'exchange', 'routing_key', 'priority', 'headers', 'expires', 'serializer', 'compression',
        'time_limit', 'soft_time_limit', 'ignore_result', 'link', 'link_error', 'delivery_mode', 'mandatory', 'shadow',
        'argsrepr', 'kwargsrepr', 'reply_to', 'root_id', 'parent_id', 'group_id', 'group_index', 'chord', 'chain',
        'stamped_headers', 'immutable', 'exchange_type', 'timeout', 'route_name', 'replaced_task_nesting'];
begin
    if coalesce(job.task, '') = '' then
        raise exception 'a job needs the name of a task'
            using errcode = 'null_value_not_allowed',
                hint = 'Like pgreact.enqueue(''proj.tasks.send_email'', kwargs => ''{"user_id": 42}'').';
    end if;
    if length(job.task) > 255 then
        raise exception 'the name of a task has 255 characters at most; this one has %', length(job.task)
            using errcode = 'invalid_parameter_value', hint = 'It begins with ' || left(job.task, 40) || '.';
    end if;
    if jsonb_typeof(job.args) <> 'array' then
        raise exception 'job %: args is a JSON %, not an array', job.task, jsonb_typeof(job.args)
            using errcode = 'invalid_parameter_value', hint = 'Write a list like [1, "two"]; names go into kwargs.';
    end if;
    if jsonb_typeof(job.kwargs) <> 'object' then
        raise exception 'job %: kwargs is a JSON %, not an object', job.task, jsonb_typeof(job.kwargs)
            using errcode = 'invalid_parameter_value', hint = 'Write names and values like {"user_id": 42}.';
    end if;
    if jsonb_typeof(job.options) <> 'object' then
        raise exception 'job %: options is a JSON %, not an object', job.task, jsonb_typeof(job.options)
            using errcode = 'invalid_parameter_value', hint = 'Write options of apply_async like {"queue": "mail"}.';
    end if;
    if pg_column_size(job.args) + pg_column_size(job.kwargs) > 1048576 then
        raise exception 'job %: its arguments take % bytes; 1 MiB is the limit', job.task,
            pg_column_size(job.args) + pg_column_size(job.kwargs)
            using errcode = 'program_limit_exceeded', hint = 'Keep the data in a table and pass its key.';
    end if;
    if job.options <> '{}' then
        select o into wrong
        from jsonb_object_keys(job.options) o
        where o <> all (known) and not coalesce(job.options -> 'stamped_headers' ? o, false)
        limit 1;
        if wrong is not null then
            raise exception 'job %: no option "%"', job.task, wrong
                using errcode = 'invalid_parameter_value',
                    hint = case
                        when wrong in ('countdown', 'eta') then 'Set run_at.'
                        when wrong = 'task_id' then 'Each attempt gets an id of its own; see pgreact.in_progress.'
                        when wrong like 'retry%' then 'Set max_attempts and backoff.'
                        else 'Options are ' || array_to_string(known, ', ') || '.'
                    end;
        end if;
    end if;
    if job.max_attempts < 1 then
        raise exception 'job %: max_attempts is %; it must be 1 at least', job.task, job.max_attempts
            using errcode = 'invalid_parameter_value';
    end if;
    if job.backoff < interval '0' then
        raise exception 'job %: backoff is %; it must not be negative', job.task, job.backoff
            using errcode = 'invalid_parameter_value';
    end if;
    if job.unique_while not in ('queued', 'in_progress') then
        raise exception 'job %: unique_while is "%"', job.task, job.unique_while
            using errcode = 'invalid_parameter_value',
                hint = 'It is queued, or in_progress (while queued or in progress).';
    end if;
    -- a message that goes past the queue has none
    if job.lane is not null then
        perform pgreact.check_lane(job.lane);
    end if;
end
$$;
comment on function pgreact.check_job(pgreact.queue) is 'refuses a job that cannot be right';
revoke all on function pgreact.check_job(pgreact.queue) from public;
