-- The schedules that fire from now on, in the importers' form.
select to_jsonb(r)
from (
    select s.name, s.task, s.args::text as args, s.kwargs::text as kwargs, s.options::text as options, extract(epoch from s.every)::float8 as every,
        s.cron, s.cron_and, s.at, s.solar, s.rrule, s.timezone, coalesce(s.anchor, s.start_at, s.created_at) as anchor,
        s.start_at, s.end_at
    from pgreact.schedule s
    where (
            s.enabled
            -- but not those that their source has disabled
            or %(disabled)s and (s.origin = 'config' or s.entry -> 'enabled' is distinct from 'false' or s.entry ? 'held')
        )
        and s.state in ('new', 'planned')
        and (s.max_runs is null or s.run_count < s.max_runs)
    order by s.name
) r
