-- The jobs that have not ended, with the arguments of their next message, for pgreact.testing.
select
    j.id, j.task, coalesce(j.resume -> 'args', j.args)::text as args, coalesce(j.resume -> 'kwargs', j.kwargs)::text as kwargs,
    coalesce(j.lane, t.queue) as lane, j.key, j.unique_key, j.priority, j.run_at, j.expires, j.options::text as options,
    j.task_id::text as task_id, j.attempt, j.state
from (
    select q.id, q.task, q.resume, q.args, q.kwargs, q.lane, q.key, q.unique_key, q.priority, q.run_at, q.expires, q.options,
        q.task_id, q.attempt, q.state
    from pgreact.queue q
    union all
    select p.id, p.task, p.resume, p.args, p.kwargs, p.lane, p.key, p.unique_key, p.priority, p.run_at, p.expires, p.options,
        p.task_id, p.attempt, 'in progress'
    from pgreact.in_progress p
) j
left join pgreact.task t on t.name = j.task
order by j.id
