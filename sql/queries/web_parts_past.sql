-- The columns of web_parts for each lane's own past: a week of hours that are folded already and, for a young installation, the three
-- hours before the last 15 minutes.
with cells as (
    select t.lane, t.jobs, t.wait_s, t.transactions, t.transaction_s, t.claim_s, t.publish_s, t.broker_s, t.run_s
    from pgreact.tally t
    where t.minute > now() - interval '3 h' and t.minute <= now() - interval '15 min'
    union all
    select h.lane, h.jobs, h.wait_s, h.transactions, h.transaction_s, h.claim_s, h.publish_s, h.broker_s, h.run_s
    from pgreact.tally_hour h
    where h.minute > now() - interval '9 days'
)
select
    pgreact.readable(c.lane) as lane,
    false as recent,
    coalesce(sum(c.jobs) filter (where c.wait_s > 0), 0)::bigint as started,
    sum(c.transactions)::bigint as transactions,
    sum(c.transaction_s)::float8 as "transaction",
    sum(c.claim_s)::float8 as claim,
    sum(c.publish_s)::float8 as publish,
    sum(c.broker_s)::float8 as broker,
    sum(c.run_s)::float8 as run
from cells c
group by c.lane
order by c.lane
