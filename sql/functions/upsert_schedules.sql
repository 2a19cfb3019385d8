-- Writes an importer's schedules. The outcome of each:
--   added      its name is new
--   changed    its entry differs from the one imported last: the columns that the entry decides are updated; runs and plan
--              only if the source has a later run
--   unchanged  its entry is the same: the row is left alone, with any edits made here
--   sql, imported, config, app   a schedule of another origin has its name: left alone
create or replace function pgreact.upsert_schedules(entries jsonb, wanted_origin text) returns table (name text, outcome text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if wanted_origin not in ('sql', 'app') then
        raise exception 'an import cannot write schedules of origin "%"', wanted_origin
            using errcode = 'invalid_parameter_value', hint = 'Use sql or app; "pgreact apply" writes those of origin config.';
    end if;
    return query
    with given as (
        select
            -- the source's entry, without its runs and plan
            e - '{last_run_at,last_nominal_at,run_count,grid,due}'::text[] as entry,
            r.name, r.task,
            coalesce(r.args, '[]')::jsonb as args,
            coalesce(r.kwargs, '{}')::jsonb as kwargs,
            r.every * interval '1 s' as every,
            r.cron,
            coalesce(r.cron_and, false) as cron_and,
            r.at, r.solar, r.rrule,
            coalesce(r.timezone, 'UTC') as timezone,
            r.anchor,
            coalesce(r.enabled, true) as enabled,
            r.start_at, r.end_at, r.max_runs, r.misfire,
            r.grace * interval '1 s' as grace,
            coalesce(r.delivery, 'queue') as delivery,
            coalesce(r.options, '{}')::jsonb as options,
            r.expires * interval '1 s' as expires,
            coalesce(r.description, '') as description,
            r.last_run_at, r.last_nominal_at,
            coalesce(r.run_count, 0) as run_count,
            r.grid,
            -- the source fires nothing after the end, not even what is late
            case when coalesce(r.enabled, true) and (r.end_at > pgreact.clock_now()) is not false then r.due end as due
        from jsonb_array_elements(entries) e,
            jsonb_to_record(e) as r (
                name text, task text, args text, kwargs text, every float8, cron text, cron_and boolean, at timestamptz, solar text,
                rrule text, timezone text, anchor timestamptz, enabled boolean, start_at timestamptz, end_at timestamptz,
                max_runs bigint, misfire text, grace float8, delivery text, options text, expires float8, description text,
                last_run_at timestamptz, last_nominal_at timestamptz, run_count bigint, grid timestamptz, due timestamptz
            )
    ),
    compared as materialized (
        select
            g.*,
            s.id,
            s.entry as known,
            g.last_nominal_at is not null and g.last_nominal_at >= coalesce(s.last_nominal_at, '-infinity') as newer,
            case
                when s.id is null then 'added'
                when s.origin <> wanted_origin then case when s.origin = 'sql' and s.entry is not null then 'imported' else s.origin end
                when s.origin = 'sql' and s.entry is null then s.origin
                when s.entry = g.entry then 'unchanged'
                else 'changed'
            end as outcome
        from given g
        left join pgreact.schedule s on s.name = g.name
    ),
    added as (
        insert into pgreact.schedule (name, task, args, kwargs, every, cron, cron_and, at, solar, rrule, timezone, anchor, enabled,
            start_at, end_at, max_runs, misfire, grace, delivery, options, expires, description, origin, entry, next_nominal_at,
            next_run_at, last_nominal_at, last_run_at, run_count)
        select j.name, j.task, j.args, j.kwargs, j.every, j.cron, j.cron_and, j.at, j.solar, j.rrule, j.timezone,
            coalesce(j.grid, j.anchor), j.enabled, j.start_at, j.end_at, j.max_runs, coalesce(j.misfire, 'coalesce'),
            coalesce(j.grace, '1 min'), j.delivery, j.options, j.expires, j.description, wanted_origin, j.entry, j.due, j.due,
            j.last_nominal_at, j.last_run_at, j.run_count
        from compared j
        where j.outcome = 'added'
    ),
    changed as (
        update pgreact.schedule s
        set task = j.task, args = j.args, kwargs = j.kwargs, every = j.every, cron = j.cron, cron_and = j.cron_and, at = j.at,
            solar = j.solar, rrule = j.rrule, timezone = j.timezone, enabled = j.enabled, start_at = j.start_at,
            end_at = j.end_at, max_runs = j.max_runs, misfire = coalesce(j.misfire, s.misfire), grace = coalesce(j.grace, s.grace),
            delivery = j.delivery, options = j.options, expires = j.expires, description = j.description, entry = j.entry,
            anchor = case
                when j.newer then coalesce(j.grid, j.anchor)
                when j.entry -> 'anchor' is distinct from j.known -> 'anchor' then j.anchor
                -- its rounding changed
                when j.entry -> 'relative' is distinct from j.known -> 'relative' then j.grid
                else s.anchor
            end,
            -- limits and misfire policy apply as to any occurrence; an ended schedule stays ended
            next_nominal_at = case when j.newer and s.state <> 'ended' then j.due else s.next_nominal_at end,
            next_run_at = case when j.newer and s.state <> 'ended' then j.due else s.next_run_at end,
            last_nominal_at = case when j.newer then j.last_nominal_at else s.last_nominal_at end,
            last_run_at = case when j.newer then j.last_run_at else s.last_run_at end,
            run_count = case when j.newer then greatest(j.run_count, s.run_count) else s.run_count end
        from compared j
        where s.id = j.id and j.outcome = 'changed'
    )
    select j.name, j.outcome
    from compared j;
end
$$;
comment on function pgreact.upsert_schedules(jsonb, text) is 'adds imported schedules, and updates those whose source has changed';
revoke all on function pgreact.upsert_schedules(jsonb, text) from public;
