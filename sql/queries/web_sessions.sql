-- The sessions of pgreact on this database. Other columns than the name are null where this role may not see them.
select a.pid, a.application_name, a.usename::text as role, host(a.client_addr) as client, a.backend_start, a.state,
    a.wait_event_type, a.wait_event, extract(epoch from now() - a.xact_start)::float8 as transaction_s
from pg_stat_activity a
where a.datname = current_database() and a.application_name like 'pgreact %'
order by a.application_name, a.pid
limit 200
