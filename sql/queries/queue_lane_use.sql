-- What stands in the way of removing a lane.
select
    (select count(*) from pgreact.queue q where q.lane = %(lane)s) as waiting,
    (select count(*) from pgreact.in_progress p where p.lane = %(lane)s) as in_progress,
    (
        select string_agg(distinct o.relation::text, ', ')
        from pgreact.outbox o
        where o.lane = %(lane)s and o.origin = 'sql'
    ) as outbox
