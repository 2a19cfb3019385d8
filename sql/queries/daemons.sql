-- The sessions that hold the leader's lock (granted) or wait for it: leader and standbys.
select a.application_name, l.granted
from pg_locks l
join pg_stat_activity a using (pid)
where l.locktype = 'advisory'
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid::bigint = pgreact.lock_class('leader')
    and l.objid = 0
    and l.objsubid = 2
order by l.granted desc, a.application_name
