-- Rows of a tally: attempts of a lane, more and fewer by turns, one in ten of them slower. The
-- table is pgreact.tally or pgreact.tally_hour. See web_data.py.
insert into {table} (
    minute, lane, task, outcome, jobs, waits, wait_s, runs, run_s, transactions, transaction_s, claim_s, publish_s, broker_s
)
select
    m.minute, %(lane)s, %(task)s, o.outcome, n.jobs,
    (
        select array_agg(case b - width_bucket(%(wait)s * w.factor, pgreact.buckets()) when 0 then n.jobs - n.jobs / 10
            when 1 then n.jobs / 10 else 0 end order by b)
        from generate_series(0, cardinality(pgreact.buckets())) b
    ),
    n.jobs * %(wait)s,
    (
        select array_agg(case b - width_bucket(%(run)s * w.factor, pgreact.buckets()) when 0 then n.jobs - n.jobs / 10
            when 1 then n.jobs / 10 else 0 end order by b)
        from generate_series(0, cardinality(pgreact.buckets())) b
    ),
    n.jobs * %(run)s, n.jobs,
    n.jobs * %(transaction)s, n.jobs * %(claim)s, n.jobs * %(publish)s, n.jobs * %(broker)s
from generate_series(
    date_trunc(%(unit)s, now()) - %(first)s::interval,
    date_trunc(%(unit)s, now()) - %(last)s::interval,
    %(step)s::interval
) m (minute)
cross join lateral (
    select 1 + sin(extract(epoch from m.minute) / 400) * 0.45 + sin(extract(epoch from m.minute) / 97) * 0.2
) w (factor)
cross join (values ('done', 1.0), ('retried', 0.03)) o (outcome, share)
cross join lateral (select greatest(0, round(%(rate)s * o.share * w.factor))::bigint) n (jobs)
where n.jobs > 0
