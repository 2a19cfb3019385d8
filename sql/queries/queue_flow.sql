-- By lane: attempts settled a second, their waits and runs as histograms, over the last five minutes and the current one.
select
    t.lane,
    (sum(t.jobs) / extract(epoch from now() - date_trunc('minute', now() - interval '5 min')))::float8 as jobs_s,
    pgreact.sum_counts(t.waits) as waits,
    pgreact.sum_counts(t.runs) as runs,
    pgreact.buckets() as bounds
from pgreact.tally t
where t.minute >= date_trunc('minute', now() - interval '5 min')
group by t.lane
