-- New and due schedules. $1 to $5: as in timetable_next; $6: how many of each at most; $7: only these ids, or null.
-- The time is read once, outside of the conditions: an index cannot use a volatile function.
with m as materialized (select pgreact.clock_now() as now),
due as materialized (
    (
        select *
        from pgreact.schedule s
        where s.state = 'new' and s.enabled and s.delivery = $1 and s.id > $2
            and s.id not in (select unnest($5::bigint[])) and ($7::bigint[] is null or s.id = any ($7))
        order by s.id
        limit $6
    )
    union all
    (
        select *
        from pgreact.schedule s
        where s.state = 'planned' and s.enabled and s.delivery = $1 and s.next_run_at <= (select now from m)
            and (s.next_run_at, s.id) > (coalesce($3, timestamptz '-infinity'), $4)
            and s.id not in (select unnest($5::bigint[])) and ($7::bigint[] is null or s.id = any ($7))
        order by s.next_run_at, s.id
        limit $6
    )
)
select
    (select now from m) as now,
    d.id, d.name, d.revision, d.state,
    (extract(epoch from d.every) * 1000000)::bigint as every_us,
    d.cron, d.cron_and, d.at, d.solar, d.rrule, d.timezone,
    coalesce(d.anchor, d.start_at, d.created_at) as anchor,
    d.start_at, d.end_at, d.max_runs, d.run_count, d.jitter, d.misfire, d.grace, d.catch_up,
    d.next_nominal_at, d.next_run_at, d.last_nominal_at,
    -- for the messages of direct delivery
    case when d.delivery = 'direct' then d.task end as task,
    case when d.delivery = 'direct' then d.args::text end as args,
    case when d.delivery = 'direct' then d.kwargs::text end as kwargs,
    case when d.delivery = 'direct' then d.options::text end as options,
    case when d.delivery = 'direct' then d.expires end as expires
from due d
