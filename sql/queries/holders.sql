-- Who holds W, and who but us holds or awaits B: one look, since one read of pg_locks is one snapshot of it.
select
    l.objid::bigint as route_id,
    l.virtualtransaction as holder,
    l.classid::bigint = pgreact.lock_class('busy') as busy
from pg_locks l
where l.locktype = 'advisory'
    and l.database = (select oid from pg_database where datname = current_database())
    and l.objsubid = 2
    and l.objid::bigint = any ($1::bigint[])
    and (
        (l.classid::bigint = pgreact.lock_class('writer') and l.granted)
        or (
            l.classid::bigint = pgreact.lock_class('busy')
            and l.mode = 'ExclusiveLock'
            and l.pid is distinct from $2
        )
    )
