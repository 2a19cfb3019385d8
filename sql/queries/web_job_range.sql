-- The id down to which a search reads, at the most "range" rows of each table that no other index narrows; null: the tables have no
-- more. "narrow": the lane's waiting jobs are few, and its index finds them.
with lane as (
    select
        %(lane)s::text is not null
        and (
            select count(*) from (select from pgreact.queue q where q.state = 'ready' and q.lane = %(lane)s limit %(range)s) r
        ) < %(range)s
        and (
            select count(*) from (select from pgreact.queue q where q.state <> 'ready' and q.lane = %(lane)s limit %(range)s) w
        ) < %(range)s as narrow
)
select greatest(
    case when %(queue)s and not (select l.narrow from lane l) then
        (select q.id from pgreact.queue q where q.id < %(before)s order by q.id desc offset %(range)s limit 1)
    end,
    case when %(in_progress)s then
        (select p.id from pgreact.in_progress p where p.id < %(before)s order by p.id desc offset %(range)s limit 1)
    end,
    case when %(dead)s then
        (select d.id from pgreact.dead d where d.id < %(before)s order by d.id desc offset %(range)s limit 1)
    end
)
