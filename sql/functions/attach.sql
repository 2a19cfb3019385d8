-- Attaches a table to a route: the commit of a change signals it. All of the work is in the trigger's WHEN.
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
    -- PostgreSQL computes WHEN without calling a function of pgreact, and it is always false, so no trigger is queued: at 64
    -- writers a PL/pgSQL body costs several times as much. The trigger is for each row: a statement that changes no row is
    -- silent, and partitions get it cloned. The text is parsed once a statement, so every node counts.
    --
    -- nextval returns the sequence value that tells whether the gate is open, and leaves the trace by which the leader finds
    -- a writer that skips its NOTIFY. PostgreSQL computes the terms of an AND in the order written: mute comes first, so that
    -- a muted writer leaves no trace. (SQL does not promise that order. A CASE would, and cost half as much again;
    -- tests/conformance would notice another order. It would cause needless calls, and lose none.)
    -- The payload is constant, so PostgreSQL folds the repeats of one transaction.
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
        insert into pgreact.watched (route_id, relation, event, condition, changed, always, definition, attached_as)
        select known, watched, change, attach.condition, case when change = 'update' then attach.changed end, attach.always,
            t.definition, t.attached_as
        from pgreact.attach_triggers(
            watched, change, format('pgreact_%s_%s', known, change), format('signals route "%s"', attach.route), null,
            attach.condition, attach.always, attach.changed, work, 'pgreact.signal_v1', array[known::text, gate], false) t
        on conflict (route_id, relation, event) do update
        set condition = excluded.condition, changed = excluded.changed, always = excluded.always,
            definition = excluded.definition, attached_as = excluded.attached_as;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, text, text[], text, boolean, text[])
    is 'makes these changes of a table signal a route; a second call with the same arguments changes nothing';
revoke all on function pgreact.attach(regclass, text, text[], text, boolean, text[]) from public;
