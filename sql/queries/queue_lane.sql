select l.name, l.max_in_progress, l.max_unstarted, l.max_lost, l.weight, l.rate, l.burst, l.paused, l.bundle, l.tasks, l.origin,
    exists (select from pgreact.task t where t.queue = l.name) as routed
from pgreact.lane l
order by l.name
