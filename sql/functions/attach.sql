create or replace function pgreact.attach(
    watched regclass,
    route text,
    events text[],
    condition text default null,
    always boolean default false,
    changed text[] default null
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
    same boolean;
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
        'current_setting(''pgreact.muted'', true) is distinct from ''on''',
        case gate
            when 'auto' then format('nextval(%L::regclass) < 4611686018427387904', 'pgreact.gate_' || known)
            when 'closed' then format('nextval(%L::regclass) is null', 'pgreact.gate_' || known)
        end,
        case when gate <> 'closed' then format('pg_notify(''pgreact'', %L) is null', known) end
    );

    perform pgreact.check_changed(events, changed);
    foreach change in array events loop
        perform pgreact.check_event(change, condition);
        called := format('pgreact_%s_%s', known, change);
        if exists (
            select
            from pgreact.watched w
            where w.relation <> watched
                and w.route_id = known
                and w.event = change
                and (w.condition is distinct from attach.condition or w.always <> attach.always
                    or change = 'update' and w.changed is distinct from attach.changed)
                and (w.relation in (select a.relid from pg_partition_ancestors(watched) a)
                    or watched in (select part from pgreact.trigger_parts(w.relation, change) part))
        ) then
            raise exception 'a parent of % signals route "%" on % already, with another condition, "changed" or "always"',
                watched, route, change
                using errcode = 'object_not_in_prerequisite_state',
                    hint = 'Attach with the same, or to the parent alone.';
        end if;
        same := change = 'truncate' or exists (
            select
            from pgreact.watched w
            where w.relation = watched
                and w.route_id = known
                and w.event = change
                and w.condition is not distinct from attach.condition
                and (change <> 'update' or w.changed is not distinct from attach.changed)
                and w.definition = pgreact.trigger_definition(watched, called)
        );
        perform pgreact.put_trigger(
            part, called, change,
            concat_ws(' and ', pgreact.row_condition(watched, change, condition, changed), work), 'pgreact.signal_v1', array[known::text, gate], always, condition, same
        )
        from pgreact.trigger_parts(watched, change) part;
        insert into pgreact.watched (route_id, relation, event, condition, changed, always, definition, attached_as)
        select known, watched, change, attach.condition, case when change = 'update' then attach.changed end, attach.always,
            pgreact.trigger_definition(watched, called), format('%I.%I', n.nspname, c.relname)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.oid = watched
        on conflict (route_id, relation, event) do update
        set condition = excluded.condition, changed = excluded.changed, always = excluded.always,
            definition = excluded.definition, attached_as = excluded.attached_as;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, text, text[], text, boolean, text[])
    is 'makes these changes of a table signal a route; again changes nothing';
revoke all on function pgreact.attach(regclass, text, text[], text, boolean, text[]) from public;
