-- Each row of pgreact.outbox, and the state of its trigger.
select
    o.relation::oid::bigint as relation,
    case when c.oid is null then o.relation::text else format('%I.%I', n.nspname, c.relname) end as "table",
    o.event,
    o.task,
    o.lane,
    o.condition,
    o.always,
    o.origin,
    case
        when c.oid is null then 'table dropped'
        when pgreact.replaced(o.relation, o.attached_as) then 'another table has its name'
        when t.oid is null then 'missing'
        when t.tgfoid <> 'pgreact.outbox_v1'::regproc then 'wrong version'
        when o.event <> 'truncate' and pgreact.outbox_key(o.relation) is null then 'without a primary key'
        when exists (
            select
            from pgreact.trigger_parts(o.relation, o.event) part
            join pg_trigger p on p.tgrelid = part and p.tgname = t.tgname
            where p.tgargs is distinct from pgreact.trigger_arguments(
                array[o.task, coalesce(o.lane, '')] || case when o.event <> 'truncate' then pgreact.outbox_key(part) end
            )
        ) then 'wrong key or lane'
        else pgreact.trigger_state(o.relation, t.tgname, o.event, o.always, o.definition)
    end as trigger,
    o.changed
from pgreact.outbox o
left join pg_class c on c.oid = o.relation
left join pg_namespace n on n.oid = c.relnamespace
left join pg_trigger t on t.tgrelid = o.relation and t.tgname = pgreact.outbox_trigger(o.task, o.event)
order by "table", o.task, array_position(array['insert', 'update', 'delete', 'truncate'], o.event)
