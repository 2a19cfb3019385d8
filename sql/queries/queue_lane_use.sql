-- What uses a lane and prevents its removal. Schedules that the same plan changes or removes do not count.
select
    (select coalesce(sum(d.ready + d.delayed + d.blocked), 0) from pgreact.lane_depths() d where d.lane = %(lane)s) as waiting,
    (select count(*) from pgreact.in_progress p where p.lane = %(lane)s) as in_progress,
    (
        select string_agg(distinct o.relation::text, ', ')
        from pgreact.outbox o
        where o.lane = %(lane)s and o.origin = 'sql'
    ) as outbox,
    (
        select string_agg(s.name, ', ' order by s.name) filter (where s.place <= 3)
            || case when count(*) > 3 then ', …' else '' end
        from (
            select s.name, row_number() over (order by s.name) as place
            from pgreact.schedule s
            where s.lane = %(lane)s and s.delivery = 'queue' and s.name <> all (%(replanned)s::text[])
        ) s
    ) as schedules
