-- The last occurrences of a schedule.
select h.nominal_at, h.fired_at, h.outcome, h.job, h.task_id, h.error
from pgreact.schedule_history h
where h.schedule = %(name)s
order by h.fired_at desc, h.nominal_at desc
limit %(limit)s
