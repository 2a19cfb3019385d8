-- One event of one table: what attaching to a route and to a task have in common. In this order:
-- - another table whose rows are rows of this one too (a parent, a partition, a child table) is attached with other settings:
--   refused, since one trigger name on one table has one condition
-- - the table and each of its parts get the trigger, or keep the one that they have
-- - the caller records the trigger's definition and the table's name, with the settings
create or replace function pgreact.attach_triggers(
    watched regclass,
    event text,
    trigger text,
    purpose text,
    lane text,
    condition text,
    always boolean,
    changed text[],
    work text,
    action regproc,
    arguments text[],
    keyed boolean,
    out definition text,
    out attached_as text
)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    columns text[] := case when event = 'update' then changed end;
    row_condition text;
    same boolean;
begin
    perform pgreact.check_event(event, condition);
    if exists (
        select
        from pgreact.attached() a
        where a.trigger = attach_triggers.trigger
            and a.relation <> watched
            and (a.lane, a.condition, a.always, a.changed) is distinct from
                (attach_triggers.lane, attach_triggers.condition, attach_triggers.always, columns)
            and (a.relation in (select p.relid from pg_partition_ancestors(watched) p)
                or watched in (select part from pgreact.trigger_parts(a.relation, a.event) part))
    ) then
        raise exception 'a parent of % % on % already, with another condition, %"changed" or "always"',
            watched, purpose, event, case when keyed then 'lane, ' else '' end
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Attach with the same, or to the parent alone.';
    end if;
    row_condition := pgreact.row_condition(watched, event, condition, changed);
    same := event = 'truncate' or exists (
        select
        from pgreact.attached() a
        where a.trigger = attach_triggers.trigger
            and a.relation = watched
            and (a.condition, a.changed) is not distinct from (attach_triggers.condition, columns)
            and a.definition = pgreact.trigger_definition(watched, attach_triggers.trigger)
    );
    perform pgreact.put_trigger(
        part, trigger, event,
        nullif(concat_ws(' and ', row_condition, work), ''),
        action,
        arguments || case when keyed and event <> 'truncate' then pgreact.outbox_key(part) end,
        always, condition, same
    )
    from pgreact.trigger_parts(watched, event) part;
    definition := pgreact.trigger_definition(watched, trigger);
    select format('%I.%I', n.nspname, c.relname)
    into attached_as
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = watched;
end
$$;
comment on function pgreact.attach_triggers(regclass, text, text, text, text, text, boolean, text[], text, regproc, text[], boolean)
    is 'makes the trigger of one event stand on a table and its parts; returns what attach records of it';
revoke all on function
    pgreact.attach_triggers(regclass, text, text, text, text, text, boolean, text[], text, regproc, text[], boolean) from public;
