-- Each task's attempts of the last hour: how many, how many of them lost, and how long they ran. runs counts them by bucket, see
-- pgreact.tally.
select pgreact.readable(t.task) as task, sum(t.jobs)::bigint as jobs,
    coalesce(sum(t.jobs) filter (where t.outcome = 'lost'), 0)::bigint as lost, pgreact.sum_counts(t.runs) as runs
from pgreact.tally t
where t.minute > now() - interval '1 hour'
group by t.task
order by sum(t.jobs) desc
limit 1000
