-- The canary, in one row: its interval (null: off), the last one, since when none has come back (age_s), and where the last one is
-- while it has not come back (place, and job: its id, unless it was cancelled); failing: it should have.
select
    extract(epoch from s.canary)::float8 as every_s,
    c.sent_at,
    c.returned_at,
    c.seconds,
    c.failures,
    extract(epoch from pgreact.clock_now() - coalesce(c.returned_at, c.sent_at))::float8 as age_s,
    case
        when c.sent_at is null or c.returned_at is not null then null
        when q.state = 'ready' then case when l.paused then format('its lane %s is paused', q.lane) else 'ready, not claimed' end
        when q.id is not null then q.state || coalesce(', after: ' || left(q.error, 200), '')
        when p.started_at is not null then format('started on %s, not settled', coalesce(p.worker, '(unknown)'))
        when p.published_at is not null then 'in broker, not started'
        when p.id is not null then 'claimed, not published'
        when d.id is not null then format('dead (%s): %s', d.outcome, left(d.error, 200))
        else 'cancelled'
    end as place,
    case when c.returned_at is null then coalesce(q.id, p.id, d.id) end as job,
    coalesce(s.canary is not null and c.returned_at is null
        and c.sent_at + least(s.canary, interval '60 s') < pgreact.clock_now(), false) as failing
from pgreact.queue_setting s
cross join pgreact.canary c
left join pgreact.queue q on q.id = c.job
left join pgreact.lane l on l.name = q.lane
left join pgreact.in_progress p on p.id = c.job
left join pgreact.dead d on d.id = c.job
