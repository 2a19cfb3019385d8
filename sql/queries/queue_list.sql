-- Jobs of one state, each state with its own way of being first. Texts that are not UTF-8 and times beyond Python's calendar
-- are shown all the same.
select j.id, j.state, j.attempt, j.max_attempts, j.priority, j.place,
    case when e.utf8 then j.lane else pgreact.readable(j.lane) end as lane,
    case when e.utf8 then j.task else pgreact.readable(j.task) end as task,
    case when e.utf8 then j.key else pgreact.readable(j.key) end as key,
    case when e.utf8 then j.worker else pgreact.readable(j.worker) end as worker,
    case when e.utf8 then j.error else pgreact.readable(j.error) end as error,
    greatest(least(j.since, '9999-12-30Z'), '0001-01-03Z') as since
from (
    (
        select p.id, 'in_progress' as state, p.lane, p.task, p.attempt, p.max_attempts, p.priority, p.key,
            coalesce(p.started_at, p.published_at, p.claimed_at) as since, p.worker, null as error, 1 as place
        from pgreact.in_progress p
        where %(state)s in ('in_progress', 'any')
            and (%(lane)s::text is null or p.lane = %(lane)s)
            and (%(task)s::text is null or p.task = %(task)s)
        order by p.id
        limit %(limit)s
    )
    union all
    (
        select q.id, q.state, q.lane, q.task, q.attempt, q.max_attempts, q.priority, q.key,
            case q.state when 'blocked' then q.enqueued_at else q.run_at end, null, q.error, 2
        from pgreact.queue q
        where %(state)s in (q.state, 'any')
            and (%(lane)s::text is null or q.lane = %(lane)s)
            and (%(task)s::text is null or q.task = %(task)s)
        order by q.id
        limit %(limit)s
    )
    union all
    (
        select d.id, 'dead', d.lane, d.task, d.attempt, d.max_attempts, d.priority, d.key, d.died_at, null, d.error, 3
        from pgreact.dead d
        where %(state)s in ('dead', 'any')
            and (%(lane)s::text is null or d.lane = %(lane)s)
            and (%(task)s::text is null or d.task = %(task)s)
        order by d.id
        limit %(limit)s
    )
) j
cross join (select getdatabaseencoding() = 'UTF8' as utf8) e
order by j.place, j.id
limit %(limit)s
