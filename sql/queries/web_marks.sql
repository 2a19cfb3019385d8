-- Events of the last hour that explain a change of the numbers, the latest first.
select l.at, l.event, l.subject, l.actor
from pgreact.event_log l
where l.at > now() - interval '1 h'
order by l.at desc
limit 50
