-- Schedules that need attention, a hundred of each kind at most. Kinds: failed, overdue (by a minute), unplanned (enabled and without a
-- next run for a minute), no lane (it names a lane that does not exist), misfiring and overlapping (more occurrences missed than run:
-- found late, or dropped since the run before had not ended; then seconds is its interval, if it has one). What was dropped is known
-- with a retention only; without, a schedule that may not overlap is taken to overlap.
(
    select 'failed' as kind, s.name, s.last_error as detail, null::float8 as seconds
    from pgreact.schedule s
    where s.state = 'failed' and s.enabled
    order by s.name
    limit 100
)
union all
(
    select 'overdue', o.name, null, extract(epoch from pgreact.clock_now() - o.next_run_at)::float8
    from (values ('queue'), ('direct')) d (delivery)
    cross join lateral (
        select s.name, s.next_run_at
        from pgreact.schedule s
        where s.state = 'planned' and s.enabled and s.delivery = d.delivery
            -- an index cannot use a volatile function
            and s.next_run_at < (select pgreact.clock_now() - interval '1 min')
        order by s.next_run_at
        limit 100
    ) o
)
union all
(
    select 'unplanned', u.name, null, null
    from (values ('queue'), ('direct')) d (delivery)
    cross join lateral (
        select s.name
        from pgreact.schedule s
        where s.state = 'new' and s.enabled and s.delivery = d.delivery and s.created_at < pgreact.clock_now() - interval '1 min'
        order by s.id
        limit 100
    ) u
)
union all
(
    select 'no lane', s.name, s.lane, null
    from pgreact.schedule s
    where s.enabled and s.delivery = 'queue' and s.lane is not null
        and not exists (select from pgreact.lane l where l.name = s.lane)
    limit 100
)
union all
(
    select case when h.overlapping then 'overlapping' else 'misfiring' end, s.name,
        format('%s missed, %s run', s.misfire_count, s.run_count), extract(epoch from s.every)::float8
    from pgreact.schedule s
    cross join lateral (
        select not s.overlap
            and count(*) filter (where f.outcome = 'overlapped') >= count(*) filter (where f.outcome = 'missed') as overlapping
        from (
            select r.outcome from pgreact.schedule_history r where r.schedule = s.name order by r.fired_at desc limit 100
        ) f
    ) h
    where s.enabled and s.misfire_count >= 3 and s.misfire_count > s.run_count
    order by s.id
    limit 100
)
