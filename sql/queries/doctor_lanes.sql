-- Each lane with ready jobs, its limits, what is in progress, and its first job. Its cost does not grow with the backlog: ready jobs
-- count up to 1,001, and a thousand lanes are read.
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
running as (
    select p.lane, count(*) as jobs, count(*) filter (where p.started_at is null) as unstarted,
        count(*) filter (where p.bundle is null) + count(distinct p.bundle) as places
    from pgreact.in_progress p
    where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
    group by p.lane
)
select
    pgreact.readable(n.lane) as lane,
    l.max_in_progress,
    coalesce(l.max_unstarted, 200) as max_unstarted,
    l.rate,
    coalesce(l.paused, false) as paused,
    coalesce(r.places, 0) as places,
    coalesce(r.unstarted, 0) as unstarted,
    (
        select count(*) from (select from pgreact.queue q where q.state = 'ready' and q.lane = n.lane limit 1001) w
    ) as ready,
    h.id as head,
    extract(epoch from pgreact.clock_now() - greatest(coalesce(h.ready_at, h.run_at), '0001-01-03Z'))::float8 as head_s,
    extract(epoch from pgreact.clock_now() - s.recent_at)::float8 as claimed_s,
    g.max_in_progress as max_in_all,
    (select sum(a.jobs) from running a)::integer as in_all
from lanes n
cross join lateral (
    select q.id, q.ready_at, q.run_at
    from pgreact.queue q
    where q.state = 'ready' and q.lane = n.lane
    order by q.lane, q.priority desc, q.run_at, q.id
    limit 1
) h
left join pgreact.lane l on l.name = n.lane
left join pgreact.lane_state s on s.lane = n.lane
left join running r on r.lane = n.lane
left join pgreact.queue_setting g on true
order by n.lane
