-- oldest_xmin_s: null where the role may not see the transactions of others.
select pg_notification_queue_usage() as notify_queue_usage,
    case when pg_has_role('pg_read_all_stats', 'usage') then
        greatest(0, coalesce(extract(epoch from clock_timestamp() - least(
            (
                select min(a.xact_start)
                from pg_stat_activity a
                where a.datname = current_database()
                    and a.pid <> pg_backend_pid()
                    and a.backend_type <> 'autovacuum worker'
                    and (a.backend_xmin is not null or a.backend_xid is not null)
            ),
            (select min(p.prepared) from pg_prepared_xacts p where p.database = current_database())
        )), 0))::float8
    end as oldest_xmin_s,
    (
        select jsonb_object_agg(t.relname, t.n_dead_tup)::text
        from pg_stat_user_tables t
        where t.schemaname = 'pgreact'
            and t.relname in ('queue', 'in_progress', 'settled', 'queue_state', 'lane_state', 'schedule', 'flight', 'tally_total')
    ) as dead_rows
