-- Sums of the parts of the attempts' way over the last 15 minutes, in seconds, by lane. started: attempts that a worker started, which
-- alone have times. recent: unlike the rows of web_parts_past, which has the same columns.
select
    pgreact.readable(t.lane) as lane,
    true as recent,
    coalesce(sum(t.jobs) filter (where t.wait_s > 0), 0)::bigint as started,
    sum(t.transactions)::bigint as transactions,
    sum(t.transaction_s)::float8 as "transaction",
    sum(t.claim_s)::float8 as claim,
    sum(t.publish_s)::float8 as publish,
    sum(t.broker_s)::float8 as broker,
    sum(t.run_s)::float8 as run
from pgreact.tally t
where t.minute > now() - interval '15 min'
group by t.lane
order by t.lane
