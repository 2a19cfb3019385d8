-- Attempts that run under a lease that has ended: no worker renewed it.
select p.id, pgreact.readable(p.task) as task, pgreact.readable(p.worker) as worker,
    extract(epoch from pgreact.clock_now() - p.lease_until)::float8 as ended_s,
    (select extract(epoch from s.lease)::float8 from pgreact.queue_setting s) as lease
from pgreact.in_progress p
where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
    and p.started_at is not null
    and p.lease_until < pgreact.clock_now() - interval '2 s'
order by p.lease_until
limit 100
