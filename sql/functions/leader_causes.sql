-- Why no claim may be made soon, for pgreact.why_job:
--   no_leader         no daemon leads, so nothing is claimed
--   dispatch_failing  the leader's last claim or publish failed; it is repeated
--   leader_failing    a statement of the leader fails that the dispatch of the queue needs
--   trigger           a trigger of the queue is missing or disabled: only a sweep finds what it would signal
create or replace function pgreact.leader_causes() returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_agg(c.cause order by c.place), '[]')
        from (
            select 1 as place, jsonb_build_object('code', 'no_leader') as cause
            where not exists (
                select
                from pg_locks l
                where l.locktype = 'advisory'
                    and l.database = (select d.oid from pg_database d where d.datname = current_database())
                    and l.classid::bigint = pgreact.lock_class('leader')
                    and l.objid = 0
                    and l.objsubid = 2
                    and l.granted
            )
            union all
            select 2, jsonb_build_object('code', 'dispatch_failing', 'error', pgreact.readable(f.error))
            from pgreact.flight f
            join pgreact.route r on r.id = f.route_id
            where r.name = 'pgreact.queue' and f.error is not null
            union all
            (
                select 3,
                    jsonb_build_object('code', 'leader_failing', 'subject', t.subject, 'error', pgreact.readable(t.error), 'since', t.since)
                from pgreact.trouble t
                where t.source = 'listen' and t.subject in ('routes', 'gates', 'gate polls', 'route pgreact.queue')
                    and exists (
                        select
                        from pg_stat_activity a
                        where a.datname = current_database() and a.application_name like 'pgreact leader %'
                    )
                order by t.since
                limit 3
            )
            union all
            select 4, jsonb_build_object('code', 'trigger', 'event', w.event, 'table', w.relation::text,
                'sweep_s', extract(epoch from r.sweep), 'state', case when t.oid is null then 'missing' else 'disabled' end)
            from pgreact.route r
            join pgreact.watched w on w.route_id = r.id
            left join pg_trigger t on t.tgrelid = w.relation and t.tgname = format('pgreact_%s_%s', w.route_id, w.event)
            where r.name = 'pgreact.queue' and coalesce(t.tgenabled, 'D') not in ('O', 'A')
        ) c
    );
end
$$;
comment on function pgreact.leader_causes() is 'why no claim may be made soon: no leader, what fails in it, triggers out of order';
revoke all on function pgreact.leader_causes() from public;
