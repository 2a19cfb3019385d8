-- The tables that every job goes through: live and dead rows as the statistics count them, and their last vacuum.
select format('%I.%I', s.schemaname, s.relname) as "table", s.n_live_tup as live, s.n_dead_tup as dead,
    extract(epoch from clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8 as vacuumed_s,
    coalesce(
        (select o.option_value::boolean from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled'),
        true
    ) as autovacuum
from pg_stat_all_tables s
join pg_class c on c.oid = s.relid
where s.schemaname = 'pgreact'
    and (
        s.relname in ('queue', 'in_progress', 'history_rest', 'settled', 'schedule')
        or s.relid in (select i.inhrelid from pg_inherits i where i.inhparent = to_regclass('pgreact.history'))
    )
order by s.n_dead_tup desc
