-- The tasks that are to run, and the Celery queue of each as far as the database knows it: of routes, schedules, outboxes, the canary,
-- and of the first hundred ready jobs of each lane.
with recursive lanes (lane, number) as (
    (select q.lane, 1 from pgreact.queue q where q.state = 'ready' and q.lane is not null order by q.lane limit 1)
    union all
    select f.lane, n.number + 1
    from lanes n
    cross join lateral (
        select q.lane from pgreact.queue q where q.state = 'ready' and q.lane > n.lane order by q.lane limit 1
    ) f
    where n.number < 1000
),
found (used_by, task, queue) as (
    select 'route ' || r.name, r.task, r.options ->> 'queue' from pgreact.route r where r.name <> 'pgreact.queue'
    union all
    (
        select 'schedule ' || min(s.name), s.task, s.options ->> 'queue'
        from pgreact.schedule s
        where s.enabled
        group by s.task, s.options ->> 'queue'
        limit 1000
    )
    union all
    select 'outbox of ' || o.relation::text, o.task, null from pgreact.outbox o
    union all
    select 'the canary', 'pgreact.canary', s.canary_queue from pgreact.queue_setting s where s.canary is not null
    union all
    select distinct 'jobs of lane ' || n.lane, j.task, null
    from lanes n
    cross join lateral (
        select q.task
        from pgreact.queue q
        where q.state = 'ready' and q.lane = n.lane
        order by q.lane, q.priority desc, q.run_at, q.id
        limit 100
    ) j
    where j.task <> 'pgreact.canary'
)
select pgreact.readable(f.used_by) as used_by, pgreact.readable(f.task) as task, pgreact.readable(coalesce(f.queue, t.queue)) as queue
from found f
left join pgreact.task t on t.name = f.task
order by f.used_by, f.task
