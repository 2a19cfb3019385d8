-- One route: its settings, what the leader wrote of its last flight, the session that runs its task, and what fails in the leader.
select
    pgreact.clock_now() as now,
    r.name, r.task, r.single_flight, r.gate as gate_setting, r.ready,
    extract(epoch from r."window")::float8 as window_s,
    extract(epoch from r.sweep)::float8 as sweep_s,
    extract(epoch from r.gate_poll)::float8 as gate_poll_s,
    coalesce(f.dispatches, 0) as dispatches,
    f.published_at, f.dirty_since, f.in_flight_since, f.unstarted_since, f.gate, f.gate_since, pgreact.readable(f.error) as error,
    (
        select a.application_name || ' (pid ' || l.pid || ')'
        from pg_locks l
        join pg_stat_activity a using (pid)
        where l.locktype = 'advisory'
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.classid::bigint = pgreact.lock_class('run')
            and l.objid::bigint = r.id
            and l.objsubid = 2
            and l.granted
        limit 1
    ) as runs_on,
    (
        select jsonb_agg(jsonb_build_object('subject', t.subject, 'error', pgreact.readable(t.error)) order by t.since)
        from pgreact.trouble t
        where t.source = 'listen' and t.subject in ('route ' || r.name, 'routes', 'gates', 'gate polls', 'run monitor')
            and exists (
                select
                from pg_stat_activity a
                where a.datname = current_database() and a.application_name like 'pgreact leader %%'
            )
    ) as troubles
from pgreact.route r
left join pgreact.flight f on f.route_id = r.id
where r.name = %(name)s
