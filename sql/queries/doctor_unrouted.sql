-- Tasks of jobs that are ready for a minute and have no lane, since the leader has not looked up their Celery queue.
select distinct pgreact.readable(u.task) as task
from (
    select q.task
    from pgreact.queue q
    where q.state = 'ready' and q.lane is null and q.run_at < pgreact.clock_now() - interval '1 min'
    limit 1000
) u
