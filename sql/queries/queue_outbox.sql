-- Each change that enqueues, and whether the trigger that does it stands.
select
    o.relation::oid::bigint as relation,
    case when c.oid is null then o.relation::text else format('%I.%I', n.nspname, c.relname) end as "table",
    o.event,
    o.task,
    o.lane,
    o.condition,
    o.origin,
    case
        when c.oid is null then 'table dropped'
        when t.oid is null then 'missing'
        when t.tgenabled not in ('O', 'A') then 'disabled'
        when t.tgfoid <> 'pgreact.outbox_v1'::regproc then 'wrong version'
        when k.key is null and o.event <> 'truncate' then 'without a primary key'
        when t.tgargs is distinct from pgreact.trigger_arguments(
            array[o.task, o.lane] || case when o.event <> 'truncate' then k.key end
        ) then 'wrong key or lane'
        when o.event = 'truncate' and exists (
            select from pg_partition_tree(o.relation) p
            where not exists (select from pg_trigger pt where pt.tgrelid = p.relid and pt.tgname = t.tgname)
        ) then 'missing on a partition'
        when exists (
            select
            from pg_partition_tree(o.relation) p
            join pg_trigger pt on pt.tgrelid = p.relid and pt.tgname = t.tgname
            where pt.tgenabled not in ('O', 'A')
        ) then 'disabled on a partition'
        else 'ok'
    end as trigger
from pgreact.outbox o
left join pg_class c on c.oid = o.relation
left join pg_namespace n on n.oid = c.relnamespace
left join pg_trigger t on t.tgrelid = o.relation and t.tgname = pgreact.outbox_trigger(o.task, o.event)
cross join lateral (select pgreact.outbox_key(o.relation) as key) k
order by "table", o.task, array_position(array['insert', 'update', 'delete', 'truncate'], o.event)
