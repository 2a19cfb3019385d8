-- Whether a job is simple: it passes check_job, and what else add_job does for a job does not concern it. Most jobs are, and those
-- are inserted by one statement, whose plan has this expression in place of the call; null is a value left out. A SET clause would
-- prevent that, and is not needed: see clock_now.
--   narrower than check_job     a task in ASCII; the option "queue" alone; a database in UTF8. It may refuse what check_job takes,
--                               but never the reverse
--   left to add_job             a unique key, a trace context
--   left to the statement       the size, the lane and its list of tasks
create or replace function pgreact.simple_job(
    task text,
    args jsonb,
    kwargs jsonb,
    run_at timestamptz,
    key text,
    unique_key text,
    max_attempts integer,
    backoff interval,
    expires timestamptz,
    options jsonb,
    unique_while text,
    max_lost integer,
    trace jsonb
) returns boolean
    language sql
    stable
return (
    task is null
    or task !~ '^[ -~]+$' collate "C"
    or octet_length(task) > 255
    or jsonb_typeof(args) <> 'array'
    or jsonb_typeof(kwargs) <> 'object'
    or options <> '{}' and (jsonb_typeof(options) <> 'object' or options - 'queue' <> '{}' or jsonb_typeof(options -> 'queue') <> 'string')
    or octet_length(key) > 1000
    or unique_key is not null
    or max_attempts < 1
    or max_lost < 0
    or backoff < interval '0'
    or backoff > interval '3650 days'
    or run_at < '0001-01-02Z'
    or run_at >= '9999-12-31Z'
    or expires < '0001-01-02Z'
    or expires >= '9999-12-31Z'
    or unique_while not in ('queued', 'in_progress')
    or trace is not null
    or current_setting('pgreact.traceparent', true) <> ''
    or getdatabaseencoding() <> 'UTF8'
) is not true;
comment on function pgreact.simple_job(
    text, jsonb, jsonb, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, integer, jsonb
) is 'whether a job is valid, apart from its size and lane, and add_job has nothing else to do for it';
revoke all on function pgreact.simple_job(
    text, jsonb, jsonb, timestamptz, text, text, integer, interval, timestamptz, jsonb, text, integer, jsonb
) from public;
