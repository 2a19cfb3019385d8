-- Each lane, its jobs and its pace. One pass over the queue, whatever its depth. A job that waits for a retry its task asked for
-- holds no place.
with waiting as (
    select
        q.lane,
        count(*) filter (where q.state = 'ready') as ready,
        count(*) filter (where q.state = 'delayed') as delayed,
        count(*) filter (where q.state = 'blocked') as blocked,
        count(*) filter (where q.state <> 'ready' and q.retrying) as retrying,
        min(greatest(q.run_at, '0001-01-03Z')) filter (where q.state = 'ready') as oldest
    from pgreact.queue q
    group by q.lane
),
running as (
    select p.lane, count(*) as in_progress, count(*) filter (where p.started_at is null) as unstarted
    from pgreact.in_progress p
    group by p.lane
)
select
    pgreact.readable(n.lane) as name,
    l.name is not null as known,
    coalesce(w.ready, 0) as ready,
    coalesce(w.delayed, 0) as delayed,
    coalesce(w.blocked, 0) as blocked,
    coalesce(w.retrying, 0) as retrying,
    extract(epoch from now() - w.oldest)::float8 as oldest_s,
    coalesce(r.in_progress, 0) as in_progress,
    coalesce(r.unstarted, 0) as unstarted,
    l.max_in_progress,
    l.max_unstarted,
    l.weight,
    l.rate as rate_limit,
    coalesce(s.recent * exp(-least(greatest(0, extract(epoch from now() - s.recent_at)::float8) / 60, 99)) / 60, 0) as rate,
    l.paused,
    w.ready > 0 and (r.in_progress >= l.max_in_progress or r.unstarted >= l.max_unstarted) is true as "full"
from (
    select name as lane from pgreact.lane
    union
    select lane from waiting
    union
    select lane from running
) n
left join pgreact.lane l on l.name = n.lane
left join waiting w on w.lane is not distinct from n.lane
left join running r on r.lane = n.lane
left join pgreact.lane_state s on s.lane = n.lane
order by n.lane
