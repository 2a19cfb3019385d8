-- Attempts settled since the installation.
select pgreact.readable(t.lane) as lane, pgreact.readable(t.task) as task, t.outcome, t.jobs
from pgreact.tally_total t
order by t.jobs desc
limit 10000
