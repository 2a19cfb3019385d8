-- How full the queue of notifications is, 0 to 1, and the session of the server whose transaction is open for the longest time; a
-- daemon that waits for the leader's lock does not count.
select pg_notification_queue_usage() as usage, a.pid, extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
    concat_ws(' ', a.usename, nullif(a.application_name, ''), a.state) as detail
from (select) q
left join lateral (
    select *
    from pg_stat_activity a
    where a.xact_start is not null and a.pid <> pg_backend_pid() and a.wait_event is distinct from 'advisory'
    order by a.xact_start
    limit 1
) a on true
