-- The workers that run jobs now, with the start of their longest run.
select pgreact.readable(p.worker) as worker, count(*) as running, min(p.started_at) as since, min(p.lease_until) as lease_until
from pgreact.in_progress p
where p.started_at is not null and p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
group by p.worker
order by p.worker
limit 200
