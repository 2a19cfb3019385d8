-- What became of a schedule's last occurrences.
select h.nominal_at, h.fired_at, h.outcome, h.job, h.task_id, h.error
from pgreact.schedule_history h
where h.schedule = %(name)s
order by h.fired_at desc, h.nominal_at desc
limit %(limit)s
