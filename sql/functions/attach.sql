create or replace function pgreact.attach(
    watched regclass,
    route text,
    events text[],
    condition text default null
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer;
    gate text;
    work text;
    change text;
    called text;
    part regclass;
begin
    select r.id, r.gate into known, gate from pgreact.route r where r.name = attach.route;
    if watched is null or route is null or coalesce(cardinality(events), 0) = 0 then
        raise exception 'attach needs a table, a route and at least one event'
            using errcode = 'null_value_not_allowed',
                hint = 'Like pgreact.attach(''public.job_queue'', ''dispatch'', ''{insert}'').';
    end if;
    if known is null then
        raise exception 'no route "%" in pgreact.route', route
            using errcode = 'undefined_object',
                hint = 'Insert it there first, or name it in pgreact.toml and run "pgreact apply".';
    end if;
    perform pgreact.check_watched(watched);
    -- All of the work is in WHEN, which PostgreSQL computes without calling a function of ours, and which is
    -- always false, so that nothing is queued: at 64 writers a PL/pgSQL body costs several times as much. It
    -- is for each row, so a statement that changes none is silent, and partitions get it cloned. Its text is
    -- parsed once a statement: every node counts. nextval tells the height of the gate, and leaves the trace by
    -- which the leader finds a writer that does not notify. The terms of an AND are computed in the order
    -- written: mute comes first, so that a muted writer leaves no trace. (SQL does not promise that. A CASE would,
    -- and cost half as much again; tests/conformance would notice. Another order would cost calls for nothing,
    -- and lose none.) The payload is constant, so PostgreSQL folds the repeats of one transaction.
    work := concat_ws(
        ' and ',
        -- the line break ends a comment in the condition
        '(' || condition || E'\n)',
        'current_setting(''pgreact.muted'', true) is distinct from ''on''',
        case gate
            when 'auto' then format('nextval(%L::regclass) < 4611686018427387904', 'pgreact.gate_' || known)
            when 'closed' then format('nextval(%L::regclass) is null', 'pgreact.gate_' || known)
        end,
        case when gate <> 'closed' then format('pg_notify(''pgreact'', %L) is null', known) end
    );

    foreach change in array events loop
        perform pgreact.check_event(change, condition);
        called := format('pgreact_%s_%s', known, change);
        if exists (
            select from pg_trigger t where t.tgrelid = watched and t.tgname = called and t.tgparentid <> 0
        ) then
            -- It was cloned from a parent's trigger, which does the same, and cannot be replaced.
            if not exists (
                select
                from pg_partition_ancestors(watched) a
                join pgreact.watched w on w.relation = a.relid
                where a.relid <> watched
                    and w.route_id = known
                    and w.event = change
                    and w.condition is not distinct from attach.condition
            ) then
                raise exception 'a parent of % signals route "%" on % already, with another condition',
                    watched, route, change
                    using errcode = 'object_not_in_prerequisite_state',
                        hint = 'Attach with the same condition, or to the parent alone.';
            end if;
            if exists (
                select
                from pg_trigger t
                where t.tgrelid = watched and t.tgname = called and t.tgenabled not in ('O', 'A')
            ) then
                execute format('alter table %s enable trigger %I', watched, called);
            end if;
        else
            for part in
                select c.oid
                from pg_class c
                where (c.oid = watched
                        -- nobody clones a truncate trigger
                        or change = 'truncate' and c.oid in (select p.relid from pg_partition_tree(watched) p))
                    -- Whoever attaches the same again should not wait for a lock, nor make writers wait.
                    and not exists (
                        select
                        from pg_trigger t
                        left join pgreact.watched w
                            on w.relation = watched and w.route_id = known and w.event = change
                        where t.tgrelid = c.oid
                            and t.tgname = called
                            and t.tgfoid = 'pgreact.signal_v1'::regproc
                            and t.tgargs = pgreact.trigger_arguments(array[known::text, gate])
                            and (change = 'truncate'
                                or w.event is not null and w.condition is not distinct from attach.condition)
                            and not exists (
                                select
                                from pg_trigger d
                                where d.tgname = called
                                    and d.tgenabled not in ('O', 'A')
                                    and (d.tgrelid = c.oid
                                        or d.tgrelid in (select p.relid from pg_partition_tree(c.oid) p))
                            )
                    )
            loop
                execute format(
                    'create or replace trigger %I after %s on %s for each %s when (%s) execute function pgreact.signal_v1(%L, %L)',
                    called, change, part, case when change = 'truncate' then 'statement' else 'row' end, work, known, gate);
            end loop;
        end if;
        insert into pgreact.watched (route_id, relation, event, condition)
        values (known, watched, change, condition)
        on conflict (route_id, relation, event) do update set condition = excluded.condition;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, text, text[], text)
    is 'makes these changes of a table signal a route; again changes nothing';
revoke all on function pgreact.attach(regclass, text, text[], text) from public;
