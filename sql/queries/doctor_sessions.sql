-- The sessions of pgreact's daemons and workers on this database. backend_start is null where this role may not see it.
select a.pid, a.application_name, a.usename::text as role, a.backend_start,
    exists (
        select
        from pg_locks l
        where l.pid = a.pid
            and l.granted
            and l.locktype = 'advisory'
            and l.database = a.datid
            and l.classid::bigint = pgreact.lock_class('leader')
            and l.objid = 0
            and l.objsubid = 2
    ) as leads
from pg_stat_activity a
where a.datname = current_database() and a.application_name like 'pgreact %'
order by a.backend_start, a.pid
limit 10000
