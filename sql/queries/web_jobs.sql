-- Jobs of a range of ids, the newest first. "arguments" becomes the columns that a search in arguments reads, which need a grant of
-- their own; "where" the conditions of the search. One branch for each partial index of the queue. An error of a task whose values are
-- hidden is its exception's class alone. Converts texts that are not UTF-8, and times beyond Python's calendar.
select j.id, j.state, j.attempt, j.max_attempts,
    case when e.utf8 then j.lane else pgreact.readable(j.lane) end as lane,
    case when e.utf8 then j.task else pgreact.readable(j.task) end as task,
    case when e.utf8 then j.key else pgreact.readable(j.key) end as key,
    case when e.utf8 then j.worker else pgreact.readable(j.worker) end as worker,
    left(case when e.utf8 then j.error else pgreact.readable(j.error) end, 400) as error,
    greatest(least(j.since, '9999-12-30Z'), '0001-01-03Z') as since
from (
    select p.id, 'in_progress' as state, p.lane, p.task, p.key, p.attempt, p.max_attempts, p.task_id, p.worker, null as error,
        coalesce(p.started_at, p.published_at, p.claimed_at) as since, null::timestamptz as died_at{arguments}
    from pgreact.in_progress p
    union all
    select p.id, 'ready', p.lane, p.task, p.key, p.attempt, p.max_attempts, p.task_id, null,
        case when p.task like any (%(hidden)s) then substring(p.error from '^[A-Za-z_][A-Za-z_0-9.]*(?=:|\n|$)') else p.error end,
        p.run_at, null{arguments}
    from pgreact.queue p
    where p.state = 'ready'
    union all
    select p.id, p.state, p.lane, p.task, p.key, p.attempt, p.max_attempts, p.task_id, null,
        case when p.task like any (%(hidden)s) then substring(p.error from '^[A-Za-z_][A-Za-z_0-9.]*(?=:|\n|$)') else p.error end,
        case p.state when 'blocked' then p.enqueued_at else p.run_at end, null{arguments}
    from pgreact.queue p
    where p.state <> 'ready'
    union all
    select p.id, 'dead', p.lane, p.task, p.key, p.attempt, p.max_attempts, p.task_id, null,
        coalesce(case when p.task like any (%(hidden)s) then substring(p.error from '^[A-Za-z_][A-Za-z_0-9.]*(?=:|\n|$)') else p.error end,
            p.outcome),
        p.died_at, p.died_at{arguments}
    from pgreact.dead p
) j
cross join (select getdatabaseencoding() = 'UTF8' as utf8) e
where {where}
order by j.id desc
limit %(limit)s
