-- Attaches a table to a task: the transaction of a change enqueues a job. Callers name the argument enqueue: it comes last, and
-- lane has a type of its own, so that a call that gives a route by position never means this function.
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
        raise exception '% has no primary key, so a job cannot name the row that changed', keyless
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Add a primary key; or attach the table to a route, which needs no key.';
    end if;

    perform pgreact.check_changed(events, changed);
    foreach change in array events loop
        insert into pgreact.outbox (relation, event, task, lane, condition, changed, always, definition, attached_as)
        select watched, change, enqueue, attach.lane, attach.condition, case when change = 'update' then attach.changed end,
            attach.always, t.definition, t.attached_as
        from pgreact.attach_triggers(
            watched, change, pgreact.outbox_trigger(enqueue, change), format('enqueues "%s"', enqueue), attach.lane,
            attach.condition, attach.always, attach.changed, null, 'pgreact.outbox_v1', array[enqueue, coalesce(lane, '')], true) t
        on conflict (relation, event, task) do update
        set lane = excluded.lane, condition = excluded.condition, changed = excluded.changed, always = excluded.always,
            definition = excluded.definition, attached_as = excluded.attached_as;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text, boolean, text[])
    is 'makes these changes of a table enqueue a job of a task; a second call with the same arguments changes nothing';
revoke all on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text, boolean, text[]) from public;
