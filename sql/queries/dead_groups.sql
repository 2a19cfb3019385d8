-- The newest dead jobs by the pattern of their errors, task and hour. An error of a task whose values are hidden is its exception's
-- class alone.
select
    pgreact.readable(g.pattern) as pattern,
    pgreact.readable(g.task) as task,
    g.hour,
    count(*) as jobs,
    greatest(min(g.died_at), '0001-01-03Z') as first_at,
    least(max(g.died_at), '9999-12-30Z') as last_at
from (
    select
        pgreact.error_pattern(coalesce(
            case when d.task like any (%(hidden)s) then substring(d.error from '^[A-Za-z_][A-Za-z_0-9.]*(?=:|\n|$)') else d.error end,
            d.outcome)) as pattern,
        d.task,
        d.died_at,
        least(floor(extract(epoch from now() - d.died_at) / 3600), %(hours)s)::integer as hour
    from (select n.task, n.error, n.outcome, n.died_at from pgreact.dead n order by n.died_at desc limit %(range)s) d
) g
group by g.pattern, g.task, g.hour
