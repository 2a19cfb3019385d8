-- Settled attempts of the last hour by minute, of all lanes. done: those that succeeded.
select
    (extract(epoch from date_trunc('minute', now()) - t.minute) / 60)::integer as ago,
    sum(t.jobs)::bigint as jobs,
    coalesce(sum(t.jobs) filter (where t.outcome = 'done'), 0)::bigint as done
from pgreact.tally t
where t.minute > now() - interval '60 min'
group by t.minute
