-- Disabled schedules are counted only: they need no attention, whatever their state.
select
    (select count(*) from pgreact.schedule s where s.enabled) as enabled,
    (select count(*) from pgreact.schedule s where not s.enabled) as disabled,
    (
        select jsonb_build_object('name', n.name, 'run_at', n.next_run_at)
        from (values ('queue'), ('direct')) d (delivery)
        cross join lateral (
            select s.name, s.next_run_at
            from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = d.delivery
            order by s.next_run_at
            limit 1
        ) n
        order by n.next_run_at
        limit 1
    ) as next,
    (
        select count(*)
        from pgreact.schedule s
        where s.state = 'planned' and s.enabled and s.next_run_at < pgreact.clock_now() - interval '1 min'
    ) as overdue,
    (select count(*) from pgreact.schedule s where s.state = 'failed' and s.enabled) as failed,
    (
        select coalesce(jsonb_agg(jsonb_build_object('name', f.name, 'error', f.last_error) order by f.name), '[]')
        from (
            select s.name, s.last_error
            from pgreact.schedule s
            where s.state = 'failed' and s.enabled
            order by s.name
            limit 5
        ) f
    ) as failures,
    (
        select jsonb_build_object('count', count(*), 'last_at', max(r.replanned_at),
            'names', (array_agg(r.name order by r.replanned_at desc, r.name))[:5])
        from pgreact.schedule r
        where r.replanned_at > pgreact.clock_now() - interval '7 days'
        having count(*) > 0
    ) as replanned
