-- The routes, among these, whose task runs on a worker or whose worker waits to run it.
select distinct l.objid::bigint as route_id, l.classid::bigint = pgreact.lock_class('next') as waits
from pg_locks l
where l.locktype = 'advisory'
    and l.database = (select oid from pg_database where datname = current_database())
    and l.objsubid = 2
    and l.objid::bigint = any ($1::bigint[])
    and l.granted
    and l.classid::bigint in (pgreact.lock_class('run'), pgreact.lock_class('next'))
