-- Schedules by state: each counted up to 10,001, in the order of its index, so that no plan reads the whole table.
with due as (
    select
        sum(p.schedules)::integer as planned,
        sum(o.schedules)::integer as overdue
    from (values ('queue'), ('direct')) d (delivery)
    cross join (select pgreact.clock_now() - interval '1 min' as before) t
    cross join lateral (
        select count(*) as schedules
        from (
            select from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = d.delivery and s.next_run_at >= t.before
            order by s.next_run_at
            limit 10001
        ) c
    ) p
    cross join lateral (
        select count(*) as schedules
        from (
            select from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = d.delivery and s.next_run_at < t.before
            order by s.next_run_at
            limit 10001
        ) c
    ) o
)
select
    d.planned,
    d.overdue,
    (
        select sum(n.schedules)::integer
        from (values ('queue'), ('direct')) d (delivery)
        cross join lateral (
            select count(*) as schedules
            from (
                select from pgreact.schedule s where s.state = 'new' and s.enabled and s.delivery = d.delivery order by s.id limit 10001
            ) c
        ) n
    ) as new,
    (select count(*) from (select from pgreact.schedule s where s.state = 'ended' and s.enabled order by s.name limit 10001) c) as ended,
    (select count(*) from (select from pgreact.schedule s where s.state = 'failed' and s.enabled order by s.name limit 10001) c) as failed,
    (select count(*) from (select from pgreact.schedule s where not s.enabled order by s.name limit 10001) c) as disabled
from due d
