-- The occurrences of a schedule of the last two weeks, by day and half hour of its time zone; of more than 20,000 the newest.
select o.local::date as day,
    (extract(hour from o.local) * 2 + floor(extract(minute from o.local) / 30))::integer as slot,
    o.outcome,
    count(*) as occurrences,
    coalesce(extract(epoch from max(o.late) filter (where o.outcome = 'fired')), 0)::float8 as late
from (
    select h.nominal_at at time zone %(timezone)s as local, h.outcome, h.fired_at - h.nominal_at as late
    from pgreact.schedule_history h
    where h.schedule = %(name)s and h.fired_at >= now() - interval '14 days'
    order by h.fired_at desc
    limit 20000
) o
group by 1, 2, 3
order by 1, 2
