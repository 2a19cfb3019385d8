-- Retries jobs. started: none, since a retry interrupts no run.
select count(*) filter (where r.done) as done, 0 as started
from (select pgreact.retry(j) as done from unnest(%(ids)s::bigint[]) j) r
