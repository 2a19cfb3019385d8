-- Counts stop at 10,001, each in the order of an index, so that no plan reads the whole table. An index
-- cannot use a volatile function: hence the scalar subqueries for the time.
-- Disabled schedules are counted only: they need no attention, whatever their state.
select
    (
        select least(sum(e.schedules), 10001)::integer
        from (
            select count(*) as schedules
            from (values ('queue'), ('direct')) d (delivery)
            cross join lateral (
                select
                from pgreact.schedule s
                where s.state = 'planned' and s.enabled and s.delivery = d.delivery
                order by s.next_run_at
                limit 10001
            ) c
            union all
            select count(*)
            from (values ('queue'), ('direct')) d (delivery)
            cross join lateral (
                select from pgreact.schedule s where s.state = 'new' and s.enabled and s.delivery = d.delivery order by s.id limit 10001
            ) c
            union all
            select count(*) from (select from pgreact.schedule s where s.state = 'ended' and s.enabled order by s.name limit 10001) c
            union all
            select count(*) from (select from pgreact.schedule s where s.state = 'failed' and s.enabled order by s.name limit 10001) c
        ) e
    ) as enabled,
    (select count(*) from (select from pgreact.schedule s where not s.enabled order by s.name limit 10001) c) as disabled,
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
        select sum(o.schedules)::integer
        from (values ('queue'), ('direct')) d (delivery)
        cross join lateral (
            select count(*) as schedules
            from (
                select
                from pgreact.schedule s
                where s.state = 'planned' and s.enabled and s.delivery = d.delivery
                    and s.next_run_at < (select pgreact.clock_now() - interval '1 min')
                order by s.next_run_at
                limit 10001
            ) c
        ) o
    ) as overdue,
    (select count(*) from (select from pgreact.schedule s where s.state = 'failed' and s.enabled order by s.name limit 10001) c) as failed,
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
        from (
            select s.name, s.replanned_at
            from pgreact.schedule s
            where s.replanned_at > (select pgreact.clock_now() - interval '7 days')
            order by s.replanned_at desc
            limit 10001
        ) r
        having count(*) > 0
    ) as replanned
