-- The state of some jobs, or the outcome of their last attempt where a history is kept; table: where the job is.
select distinct on (j.id) j.id, j."table", j.outcome
from (
    select q.id, 1 as place, 'queue' as "table", q.state as outcome, now() as at from pgreact.queue q where q.id = any (%(ids)s)
    union all
    select p.id, 2, 'in_progress', case when p.started_at is null then 'claimed' else 'running' end, now()
    from pgreact.in_progress p
    where p.id = any (%(ids)s)
    union all
    select d.id, 3, 'dead', d.outcome, d.died_at from pgreact.dead d where d.id = any (%(ids)s)
    union all
    select h.id, 4, 'history', h.outcome, h.settled_at from pgreact.history h where h.id = any (%(ids)s)
) j
order by j.id, j.place, j.at desc
