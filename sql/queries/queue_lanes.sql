-- Each lane, its jobs and its rate of claims. A count of waiting jobs above counted_to means more. Jobs that wait for a retry their task asked for
-- take no place, and those of a bundle one. More than max_unstarted are published and not started only where messages carry several, five at least: see
-- pgreact.lane_rooms.
select
    pgreact.readable(d.lane) as name,
    l.name is not null as known,
    d.ready,
    d.delayed,
    d.blocked,
    d.retrying,
    d.counted_to,
    case when d.oldest is not null then extract(epoch from now() - greatest(d.oldest, '0001-01-03Z'))::float8 end as oldest_s,
    d.in_progress,
    d.places,
    d.unstarted,
    l.max_in_progress,
    l.max_unstarted,
    u.unstarted_limit,
    l.weight,
    l.bundle,
    l.rate as rate_limit,
    coalesce(s.recent * exp(-least(greatest(0, extract(epoch from now() - s.recent_at)::float8) / 60, 99)) / 60, 0) as rate,
    coalesce(s.claimed, 0) as claimed,
    l.paused,
    d.ready > 0 and (d.places >= l.max_in_progress or d.unstarted >= u.unstarted_limit) is true as "full"
from pgreact.lane_depths() d
left join pgreact.lane l on l.name = d.lane
left join pgreact.lane_state s on s.lane = d.lane
cross join lateral (
    select l.max_unstarted::bigint * case when d.unstarted > l.max_unstarted then 5 else 1 end as unstarted_limit
) u
order by d.lane
