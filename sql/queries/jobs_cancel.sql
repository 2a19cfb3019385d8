-- Cancels jobs. started: jobs that run, for the last time.
select count(*) filter (where r.result = 'cancelled') as done, count(*) filter (where r.result = 'started') as started
from (select pgreact.cancel(j) as result from unnest(%(ids)s::bigint[]) j) r
