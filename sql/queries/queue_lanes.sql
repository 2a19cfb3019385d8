-- Each lane, its jobs and its pace. One pass over the queue, whatever its depth.
with waiting as (
    select
        q.lane,
        count(*) filter (where q.state = 'ready') as ready,
        count(*) filter (where q.state = 'delayed') as delayed,
        count(*) filter (where q.state = 'behind') as behind,
        min(greatest(q.run_at, '0001-01-03Z')) filter (where q.state = 'ready') as oldest
    from pgreact.queue q
    group by q.lane
),
running as (
    select p.lane, count(*) as in_progress from pgreact.in_progress p group by p.lane
)
select
    pgreact.readable(n.lane) as name,
    l.name is not null as known,
    coalesce(w.ready, 0) as ready,
    coalesce(w.delayed, 0) as delayed,
    coalesce(w.behind, 0) as behind,
    extract(epoch from now() - w.oldest)::float8 as oldest_s,
    coalesce(r.in_progress, 0) as in_progress,
    l.max_in_progress,
    l.weight,
    l.rate as rate_limit,
    coalesce(s.recent * exp(-least(greatest(0, extract(epoch from now() - s.recent_at)::float8) / 60, 99)) / 60, 0) as rate,
    l.paused
from (
    select name as lane from pgreact.lane
    union
    select lane from waiting
    union
    select lane from running
) n
left join pgreact.lane l on l.name = n.lane
left join waiting w on w.lane = n.lane
left join running r on r.lane = n.lane
left join pgreact.lane_state s on s.lane = n.lane
order by n.lane
