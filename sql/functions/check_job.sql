-- Refuses an invalid job when it is enqueued, where the application sees the error. Constraints of the table would cost each
-- enqueue more.
create or replace function pgreact.check_job(
    job pgreact.queue,
    -- not in the row, whose domains would refuse them with an error of their own
    max_attempts integer,
    max_lost integer,
    backoff interval,
    unique_while text
) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- As text, which the leader holds in memory: a number of few bytes may have 131,072 digits.
    size bigint := octet_length(job.args::text) + octet_length(job.kwargs::text) + octet_length(job.options::text);
    utf8 boolean := getdatabaseencoding() = 'UTF8';
    -- One expression, since each further statement costs as much again.
    fault text := case
        when job.task is null or job.task = '' then 'task'
        when length(job.task) > 255 then 'length'
        when job.task ~ '[[:cntrl:]]' collate "C" then 'control'
        when jsonb_typeof(job.args) <> 'array' then 'args'
        when jsonb_typeof(job.kwargs) <> 'object' then 'kwargs'
        when jsonb_typeof(job.options) <> 'object' then 'options'
        when size > 1048576 then 'size'
        when octet_length(job.key) > 1000 then 'key'
        when octet_length(job.unique_key) > 1000 then 'unique_key'
        when not utf8 and pgreact.readable(concat_ws(' ', job.task, job.key, job.unique_key, job.args, job.kwargs, job.options))
            <> concat_ws(' ', job.task, job.key, job.unique_key, job.args, job.kwargs, job.options) then 'encoding'
        when max_attempts < 1 then 'max_attempts'
        when max_lost < 0 then 'max_lost'
        when backoff < interval '0' or backoff > interval '3650 days' then 'backoff'
        -- the bounds of Python's calendar
        when job.run_at < '0001-01-02Z' or job.run_at >= '9999-12-31Z' then 'run_at'
        when job.expires < '0001-01-02Z' or job.expires >= '9999-12-31Z' then 'expires'
        when unique_while not in ('queued', 'in_progress') then 'unique_while'
    end;
begin
    -- Control characters beyond ASCII; without a backslash, whose meaning depends on the session.
    if utf8 and octet_length(job.task) > length(job.task) and job.task ~ concat('[', chr(128), '-', chr(159), ']') then
        fault := coalesce(fault, 'control');
    end if;
    case fault
        when 'task' then
            raise exception 'a job needs the name of a task'
                using errcode = 'null_value_not_allowed',
                    hint = 'Like pgreact.enqueue(''proj.tasks.send_email'', kwargs => ''{"user_id": 42}'').';
        when 'length' then
            raise exception 'the name of a task has 255 characters at most; this one has %', length(job.task)
                using errcode = 'invalid_parameter_value', hint = 'It begins with ' || left(job.task, 40) || '.';
        when 'control' then
            raise exception 'the name of a task has a control character: %', to_json(job.task)
                using errcode = 'invalid_parameter_value';
        when 'args' then
            raise exception 'job %: args is a JSON %, not an array', job.task, jsonb_typeof(job.args)
                using errcode = 'invalid_parameter_value', hint = 'Write a list like [1, "two"]; keyword arguments go into kwargs.';
        when 'kwargs' then
            raise exception 'job %: kwargs is a JSON %, not an object', job.task, jsonb_typeof(job.kwargs)
                using errcode = 'invalid_parameter_value', hint = 'Write an object like {"user_id": 42}.';
        when 'options' then
            raise exception 'job %: options is a JSON %, not an object', job.task, jsonb_typeof(job.options)
                using errcode = 'invalid_parameter_value', hint = 'Write options of apply_async like {"queue": "mail"}.';
        when 'size' then
            raise exception 'job %: its arguments and options take % bytes as text; the limit is 1 MiB', job.task, size
                using errcode = 'program_limit_exceeded', hint = 'Keep the data in a table and pass its key.';
        when 'key', 'unique_key' then
            raise exception 'job %: % takes % bytes; the limit is 1000', job.task, fault,
                octet_length(case fault when 'key' then job.key else job.unique_key end)
                using errcode = 'program_limit_exceeded', hint = 'Use a hash of it, like md5(...).';
        when 'encoding' then
            raise exception 'job %: a text of it cannot be written in UTF-8', pgreact.readable(job.task)
                using errcode = 'character_not_in_repertoire',
                    hint = 'Look at task, key, unique_key, args, kwargs and options, and at your client_encoding.';
        when 'max_attempts' then
            raise exception 'job %: max_attempts is %; it must be at least 1', job.task, max_attempts
                using errcode = 'invalid_parameter_value';
        when 'max_lost' then
            raise exception 'job %: max_lost is %; it must not be negative', job.task, max_lost
                using errcode = 'invalid_parameter_value', hint = 'With 0 a job is not repeated after its worker died.';
        when 'backoff' then
            raise exception 'job %: backoff is %; it must not be negative, nor beyond 3650 days', job.task, backoff
                using errcode = 'invalid_parameter_value';
        when 'run_at', 'expires' then
            raise exception 'job %: % is %, beyond the calendar', job.task, fault,
                case fault when 'run_at' then job.run_at else job.expires end
                using errcode = 'datetime_field_overflow',
                    hint = 'Use a time between the years 1 and 9999, or leave it out: then a job may run at once (run_at), or for ever (expires).';
        when 'unique_while' then
            raise exception 'job %: unique_while is "%", neither queued nor in_progress', job.task, unique_while
                using errcode = 'invalid_parameter_value',
                    hint = 'With in_progress the key is unique while a job is queued or in progress.';
        else
            null;
    end case;
    -- Most jobs have the option "queue" alone.
    if job.options <> '{}' and (job.options - 'queue' <> '{}' or jsonb_typeof(job.options -> 'queue') <> 'string') then
        perform pgreact.check_options('job ' || job.task, job.options);
    end if;
    return size;
end
$$;
comment on function pgreact.check_job(pgreact.queue, integer, integer, interval, text) is 'refuses an invalid job; returns its size in bytes';
revoke all on function pgreact.check_job(pgreact.queue, integer, integer, interval, text) from public;
