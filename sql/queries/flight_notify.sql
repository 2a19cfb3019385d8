-- Sends a notification unless the queue of notifications fills up: a full queue would fail the commit that frees
-- the lock. The leader reads the locks, too.
select count(*)
from (select pg_notify('pgreact', %(payload)s) where pg_notification_queue_usage() < 0.5) sent
