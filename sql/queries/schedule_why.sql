-- What holds up a schedule besides its own row: the process that fires, what fails in it, its lane, its last job, and the last
-- occurrence that it did not fire.
select
    pgreact.clock_now() as now,
    exists (
        select
        from pg_locks l
        where l.locktype = 'advisory'
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.classid::bigint = pgreact.lock_class('timetable')
            and l.objid = 0
            and l.objsubid = 2
            and l.granted
    ) as fires,
    (
        select jsonb_build_object('subject', t.subject, 'error', pgreact.readable(t.error))
        from pgreact.trouble t
        where t.subject in ('schedule ' || s.name, format('fire (%%s)', s.delivery), format('due schedules (%%s)', s.delivery),
                'lock timetable', 'session timetable', 'session messages', 'beat')
            and exists (
                select
                from pg_stat_activity a
                where a.datname = current_database()
                    and a.application_name like case t.source when 'beat' then 'pgreact beat %%' else 'pgreact leader %%' end
            )
        order by t.subject <> 'schedule ' || s.name, t.since
        limit 1
    ) as trouble,
    s.lane is null or s.delivery <> 'queue' or exists (select from pgreact.lane l where l.name = s.lane) as lane_known,
    exists (select from pgreact.queue q where q.id = s.last_job)
        or exists (select from pgreact.in_progress p where p.id = s.last_job) as last_job_unsettled,
    (
        select to_jsonb(h)
        from (
            select h.nominal_at, h.fired_at, h.outcome, pgreact.readable(h.error) as error
            from pgreact.schedule_history h
            where h.schedule = s.name
            order by h.fired_at desc, h.nominal_at desc
            limit 1
        ) h
        where h.outcome <> 'fired'
    ) as unfired
from pgreact.schedule s
where s.name = %(name)s
