-- Made-up numbers of the last two weeks for "pgreact demo --web": by minute for two days, by hour before. Lane mail had a bad
-- hour yesterday. An event says so, since everything else on the pages is real.
with kinds (lane, task, outcome, per_minute, wait, run, claim_share) as (
    values
        ('mail', 'shop.send_email', 'done', 150.0, 0.4, 0.1, 0.8),
        ('mail', 'shop.send_email', 'failed', 15.0, 0.4, 0.1, 0.8),
        ('mail', 'shop.confirm_order', 'done', 45.0, 0.3, 0.05, 0.8),
        ('default', 'shop.charge_card', 'done', 100.0, 0.02, 0.2, 0.4),
        ('default', 'shop.charge_card', 'failed', 25.0, 0.02, 0.2, 0.4),
        ('images', 'shop.resize_image', 'done', 110.0, 2.0, 0.8, 0.95),
        ('reports', 'shop.build_report', 'done', 18.0, 8.0, 3.0, 0.2)
),
times as (
    select m as minute, 1 as minutes, true as recent
    from generate_series(date_trunc('minute', now() - interval '47 hours'), now() - interval '1 minute', interval '1 minute') m
    union all
    select h, 60, false
    from generate_series(date_trunc('hour', now() - interval '14 days'), now() - interval '48 hours', interval '1 hour') h
),
numbers as (
    select t.minute, t.recent, k.*,
        greatest(1, t.minutes * k.per_minute * (0.7 + 0.3 * sin(extract(epoch from t.minute)::float8 / 13750)) * (0.8 + 0.4 * random()))::bigint
            as jobs,
        k.wait * (0.7 + 0.6 * random()) * case
            when k.lane = 'mail' and t.minute between now() - interval '25 hours' and now() - interval '24 hours' then 60
            else 1
        end as wait_s
    from times t
    cross join kinds k
),
cells as (
    select n.*,
        array(
            select case b - width_bucket(n.wait_s, pgreact.buckets())
                when 0 then n.jobs - n.jobs / 4 - n.jobs / 10 when 1 then n.jobs / 10 when -1 then n.jobs / 4 else 0 end
            from generate_series(0, cardinality(pgreact.buckets())) b
        ) as waits,
        array(
            select case b - width_bucket(n.run, pgreact.buckets())
                when 0 then n.jobs - n.jobs / 4 - n.jobs / 10 when 1 then n.jobs / 10 when -1 then n.jobs / 4 else 0 end
            from generate_series(0, cardinality(pgreact.buckets())) b
        ) as runs
    from numbers n
),
rows as (
    select c.recent, c.minute, c.lane, c.task, c.outcome, c.jobs, c.waits, c.jobs * c.wait_s as wait_s, c.runs, c.jobs * c.run as run_s,
        c.jobs as transactions, c.jobs * 0.003 as transaction_s, c.jobs * c.wait_s * c.claim_share as claim_s,
        c.jobs * 0.002 as publish_s, c.jobs * greatest(0, c.wait_s * (1 - c.claim_share) - 0.005) as broker_s
    from cells c
),
minutes as (
    insert into pgreact.tally
    select minute, lane, task, outcome, jobs, waits, wait_s, runs, run_s, transactions, transaction_s, claim_s, publish_s, broker_s
    from rows where recent
),
hours as (
    insert into pgreact.tally_hour
    select minute, lane, task, outcome, jobs, waits, wait_s, runs, run_s, transactions, transaction_s, claim_s, publish_s, broker_s
    from rows where not recent
)
select pgreact.log_event('demo.filled', 'charts', '{"note": "numbers of the time before this event are made up"}')
