-- The workers that run jobs, as they named themselves at the start: host name and process id.
select distinct pgreact.readable(p.worker) as worker
from pgreact.in_progress p
where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
    and p.started_at is not null
    and p.worker is not null
limit 1000
