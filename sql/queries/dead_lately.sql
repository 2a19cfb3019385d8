-- The jobs that died last, of the last 15 minutes.
select d.id, pgreact.readable(d.lane) as lane, d.task, d.outcome, d.error, d.died_at
from pgreact.dead d
where d.died_at > now() - interval '15 min'
order by d.died_at desc
limit %(limit)s
