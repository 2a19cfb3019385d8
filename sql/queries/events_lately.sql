-- The last events of the cluster, the newest first.
select l.at, l.event, l.subject, l.actor
from pgreact.event_log l
order by l.id desc
limit %(limit)s
