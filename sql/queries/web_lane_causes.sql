-- What holds up the jobs of each lane now. limited: its rate leaves no token. waits_s: since when the oldest published job waits for
-- a worker. running: jobs that a worker has started.
select
    pgreact.readable(l.name) as lane,
    l.paused,
    l.rate,
    l.max_in_progress,
    coalesce(
        least(l.burst, s.tokens + l.rate * greatest(0, extract(epoch from now() - s.tokens_at)::float8)) < 1,
        false
    ) as limited,
    extract(epoch from now() - p.oldest)::float8 as waits_s,
    coalesce(p.unstarted, 0) as unstarted,
    coalesce(p.running, 0) as running
from pgreact.lane l
left join pgreact.lane_state s on s.lane = l.name
left join (
    select i.lane,
        min(i.published_at) filter (where i.started_at is null) as oldest,
        count(*) filter (where i.started_at is null) as unstarted,
        count(*) filter (where i.started_at is not null) as running
    from pgreact.in_progress i
    where i.claim_number >= (select q.oldest_claim from pgreact.queue_state q)
    group by i.lane
) p on p.lane = l.name
order by l.name
