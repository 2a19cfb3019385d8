-- What keeps vacuum from removing rows of this database: transactions, prepared ones, replication slots, standbys with feedback.
-- seconds is null where PostgreSQL does not say since when.
select 'session' as kind, a.pid::text as name, extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
    age(coalesce(a.backend_xmin, a.backend_xid)) as transactions, true as active,
    concat_ws(' ', a.usename, nullif(a.application_name, ''), a.state) as detail
from pg_stat_activity a
where a.datname = current_database()
    and a.backend_type = 'client backend'
    and a.pid <> pg_backend_pid()
    and coalesce(a.backend_xmin, a.backend_xid) is not null
union all
select 'prepared', p.gid, extract(epoch from clock_timestamp() - p.prepared)::float8, age(p.transaction), true, p.owner
from pg_prepared_xacts p
where p.database = current_database()
union all
select 'slot', s.slot_name, null, greatest(age(s.xmin), age(s.catalog_xmin)), s.active, s.slot_type
from pg_replication_slots s
where coalesce(s.xmin, s.catalog_xmin) is not null and (s.database is null or s.database = current_database())
union all
select 'standby', r.application_name, null, age(r.backend_xmin), true, host(r.client_addr)
from pg_stat_replication r
where r.backend_xmin is not null
order by 4 desc
limit 100
