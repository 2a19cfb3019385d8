-- Arguments and options of jobs, as texts, since Python may not be able to parse them; null beyond "largest" bytes.
select j.id, j.task,
    case when j.fits then pgreact.readable(j.args::text) end as args,
    case when j.fits then pgreact.readable(j.kwargs::text) end as kwargs,
    case when j.fits then pgreact.readable(j.options::text) end as options
from (
    select s.*, pg_column_size(s.args) + pg_column_size(s.kwargs) + pg_column_size(s.options) <= %(largest)s as fits
    from (
        select q.id, q.task, q.args, q.kwargs, q.options from pgreact.queue q where q.id = any (%(ids)s)
        union all
        select p.id, p.task, p.args, p.kwargs, p.options from pgreact.in_progress p where p.id = any (%(ids)s)
        union all
        select d.id, d.task, d.args, d.kwargs, d.options from pgreact.dead d where d.id = any (%(ids)s)
    ) s
) j
