-- One job, as JSON: so no driver has to know a type. Seconds from now are counted by the server, whose clock decides.
select pgreact.enqueue(
    task => j.task,
    args => j.args,
    kwargs => j.kwargs,
    lane => j.lane,
    priority => j.priority,
    run_at => coalesce(j.run_at, clock_timestamp() + j.run_in),
    key => j.key,
    unique_key => j.unique_key,
    max_attempts => j.max_attempts,
    backoff => j.backoff,
    expires => coalesce(j.expires, clock_timestamp() + j.expires_in),
    options => j.options,
    unique_while => j.unique_while,
    max_lost => j.max_lost
)
from jsonb_to_record(cast(cast(%(jobs)s as text) as jsonb)) as j (
    task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, run_in interval, key text,
    unique_key text, max_attempts integer, backoff interval, expires timestamptz, expires_in interval, options jsonb,
    unique_while text, max_lost integer
)
