-- Settled attempts of the last hour, by lane and minute, of the busiest lanes; further: the number of the others. done: those that
-- succeeded.
with lanes as materialized (
    select t.lane, count(*) over () as lanes
    from pgreact.tally t
    where t.minute > now() - interval '60 min'
    group by t.lane
    order by sum(t.jobs) desc, t.lane
    limit %(most)s
)
select
    pgreact.readable(t.lane) as lane,
    (extract(epoch from date_trunc('minute', now()) - t.minute) / 60)::integer as ago,
    sum(t.jobs)::bigint as jobs,
    coalesce(sum(t.jobs) filter (where t.outcome = 'done'), 0)::bigint as done,
    pgreact.sum_counts(t.waits) as waits,
    pgreact.sum_counts(t.runs) as runs,
    greatest(0, min(l.lanes) - %(most)s) as further
from pgreact.tally t
join lanes l on l.lane = t.lane
where t.minute > now() - interval '60 min'
group by t.lane, t.minute
order by t.lane, t.minute
