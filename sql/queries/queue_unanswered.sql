-- Jobs published and not started for longer than a lease, by lane and Celery queue.
select pgreact.readable(u.lane) as lane, pgreact.readable(u.queue) as queue, u.jobs, u.sent, u.since, u.verdict
from pgreact.unanswered() u
