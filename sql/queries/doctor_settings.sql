-- The settings of the queue, and of each route and schedule what clocks and brokers limit; in seconds.
select 'queue' as kind, null as name, null::float8 as expires, null::float8 as countdown, s.max_in_progress,
    extract(epoch from s.lease)::float8 as lease
from pgreact.queue_setting s
union all
select 'route', r.name, extract(epoch from r.expires)::float8, extract(epoch from r.countdown)::float8, null, null
from pgreact.route r
where r.name <> 'pgreact.queue'
union all
(
    select 'schedule', s.name, extract(epoch from s.expires)::float8, null, null, null
    from pgreact.schedule s
    where s.enabled and s.expires is not null
    order by s.expires
    limit 100
)
