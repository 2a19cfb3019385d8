-- By the name "enqueue" alone: the type of lane, and enqueue at the end, keep a call that names a route by position from
-- meaning this one.
create or replace function pgreact.attach(
    watched regclass,
    lane pgreact.lane_name default null,
    events text[] default '{insert,update,delete}',
    condition text default null,
    enqueue text default null,
    always boolean default false,
    changed text[] default null
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    keyless regclass;
    change text;
    called text;
    same boolean;
begin
    if watched is null or coalesce(enqueue, '') = '' or coalesce(cardinality(events), 0) = 0 then
        raise exception 'attach needs a table, at least one event, and a route or a task to enqueue'
            using errcode = 'null_value_not_allowed',
                hint = 'Like pgreact.attach(''public.orders'', enqueue => ''proj.tasks.order_changed''), '
                    'or pgreact.attach(''public.job_queue'', ''dispatch'', ''{insert}'').';
    end if;
    if length(enqueue) > 255 then
        raise exception 'the name of a task has 255 characters at most; this one has %', length(enqueue)
            using errcode = 'invalid_parameter_value', hint = 'It begins with ' || left(enqueue, 40) || '.';
    end if;
    perform pgreact.check_lane(
        coalesce(lane, (select t.queue from pgreact.task t where t.name = attach.enqueue)), enqueue, named => lane is not null);
    perform pgreact.check_watched(watched);
    if events <> '{truncate}' then
        select part into keyless
        from pgreact.trigger_parts(watched, 'insert') part
        where pgreact.outbox_key(part) is null
        limit 1;
    end if;
    if keyless is not null then
        raise exception '% has no primary key, so a job cannot say which row changed', keyless
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Add a primary key; or attach a route, which says only that something changed.';
    end if;

    perform pgreact.check_changed(events, changed);
    foreach change in array events loop
        perform pgreact.check_event(change, condition);
        called := pgreact.outbox_trigger(enqueue, change);
        if exists (
            select
            from pgreact.outbox o
            where o.relation <> watched
                and o.event = change
                and o.task = attach.enqueue
                and (o.lane is distinct from attach.lane or o.condition is distinct from attach.condition or o.always <> attach.always
                    or change = 'update' and o.changed is distinct from attach.changed)
                and (o.relation in (select a.relid from pg_partition_ancestors(watched) a)
                    or watched in (select part from pgreact.trigger_parts(o.relation, change) part))
        ) then
            raise exception 'a parent of % enqueues "%" on % already, with another condition, lane, "changed" or "always"',
                watched, enqueue, change
                using errcode = 'object_not_in_prerequisite_state',
                    hint = 'Attach with the same, or to the parent alone.';
        end if;
        same := change = 'truncate' or exists (
            select
            from pgreact.outbox o
            where o.relation = watched
                and o.event = change
                and o.task = attach.enqueue
                and o.condition is not distinct from attach.condition
                and (change <> 'update' or o.changed is not distinct from attach.changed)
                and o.definition = pgreact.trigger_definition(watched, called)
        );
        perform pgreact.put_trigger(
            part, called, change,
            pgreact.row_condition(watched, change, condition, changed),
            'pgreact.outbox_v1',
            array[enqueue, coalesce(lane, '')] || case when change <> 'truncate' then pgreact.outbox_key(part) end,
            always, condition, same
        )
        from pgreact.trigger_parts(watched, change) part;
        insert into pgreact.outbox (relation, event, task, lane, condition, changed, always, definition, attached_as)
        select watched, change, enqueue, attach.lane, attach.condition, case when change = 'update' then attach.changed end,
            attach.always, pgreact.trigger_definition(watched, called), format('%I.%I', n.nspname, c.relname)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.oid = watched
        on conflict (relation, event, task) do update
        set lane = excluded.lane, condition = excluded.condition, changed = excluded.changed, always = excluded.always,
            definition = excluded.definition, attached_as = excluded.attached_as;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text, boolean, text[])
    is 'makes these changes of a table enqueue a job, named by enqueue => task; again changes nothing';
revoke all on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text, boolean, text[]) from public;
