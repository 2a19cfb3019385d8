-- Schedules that a clock far ahead may have planned or ended; the planner decides. Only those that were planned by a later
-- clock than the present one, which an index finds: else there is none, however many schedules there are. $1 and $2: planned_at
-- and id of the last row read; $3: how many; $4: how far ahead. Nothing while the clock is behind: it shows a time before this
-- schema was made.
with m as materialized (
    select pgreact.clock_now() as now
    where pgreact.clock_now() > (select min(g.applied_at) from pgreact.migration g)
)
select
    m.now, s.planned_at, s.id, s.name, s.revision, s.state,
    (extract(epoch from s.every) * 1000000)::bigint as every_us,
    s.cron, s.cron_and, s.at, s.solar, s.rrule, s.timezone,
    coalesce(s.anchor, s.start_at, least(s.created_at, m.now)) as anchor,
    s.start_at, s.end_at, s.max_runs, s.run_count, s.jitter, s.misfire, s.grace, s.catch_up,
    s.next_nominal_at, s.next_run_at, s.last_nominal_at
from m
cross join pgreact.schedule s
where s.planned_at > (select n.now from m n)
    and (s.planned_at, s.id) > (coalesce($1, timestamptz '-infinity'), $2)
    and s.enabled
    and (
        s.state = 'planned' and s.next_run_at > m.now + $4::interval
        or s.state = 'ended' and s.at is null and s.last_nominal_at > m.now + $4::interval
    )
    -- rows with invalid values are reported when they are due
    and s.jitter between interval '0' and interval '31 days'
    and s.grace between interval '0' and interval '3650 days'
    and coalesce(s.every between interval '0' and interval '3650 days', true)
    and coalesce(least(s.at, s.anchor, s.start_at, s.end_at, s.created_at, s.next_nominal_at, s.next_run_at, s.last_nominal_at)
            >= '0001-01-02 00:00Z'
        and greatest(s.at, s.anchor, s.start_at, s.end_at, s.created_at, s.next_nominal_at, s.next_run_at, s.last_nominal_at)
            < '9999-12-31 00:00Z', true)
order by s.planned_at, s.id
limit $3
