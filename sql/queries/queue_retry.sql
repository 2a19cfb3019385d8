-- Retries one batch of dead jobs. Jobs that died after the command began stay dead.
select count(*) filter (where r.done), max(r.id)
from (
    select c.id, pgreact.retry(c.id) as done
    from (
        select d.id
        from pgreact.dead d
        where d.id > %(beyond)s
            and d.died_at <= %(began)s
            and (%(lane)s::text is null or d.lane = %(lane)s)
            and (%(task)s::text is null or d.task = %(task)s)
        order by d.id
        limit %(batch)s
    ) c
) r
