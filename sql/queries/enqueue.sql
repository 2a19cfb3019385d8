-- One job, as JSON text, so that no driver has to know a type. run_in and expires_in count from the server's clock.
select e.id, case when j.unique_key is null then t.id else pgreact.task_id(e.id) end
from jsonb_to_record(cast(cast(%(jobs)s as text) as jsonb)) as j (
    task text, args jsonb, kwargs jsonb, lane text, priority integer, run_at timestamptz, run_in interval, key text,
    unique_key text, max_attempts integer, backoff interval, expires timestamptz, expires_in interval, options jsonb,
    unique_while text, task_id uuid, max_lost integer, trace jsonb
)
-- offset 0: each is called once, not at each use of its result
cross join lateral (select coalesce(j.task_id, gen_random_uuid()) as id offset 0) t
cross join lateral (
    select pgreact.enqueue(
        task => j.task,
        args => j.args,
        kwargs => j.kwargs,
        lane => j.lane,
        priority => j.priority,
        run_at => coalesce(j.run_at, pgreact.clock_now() + j.run_in),
        key => j.key,
        unique_key => j.unique_key,
        max_attempts => j.max_attempts,
        backoff => j.backoff,
        expires => coalesce(j.expires, pgreact.clock_now() + j.expires_in),
        options => j.options,
        unique_while => j.unique_while,
        task_id => t.id,
        max_lost => j.max_lost,
        trace => j.trace
    ) as id
    offset 0
) e
