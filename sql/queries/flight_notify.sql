-- Not into a queue that fills up: a full one would fail the commit that frees the lock, and the daemon looks at
-- the locks, too.
select count(*)
from (select pg_notify('pgreact', %(payload)s) where pg_notification_queue_usage() < 0.5) told
