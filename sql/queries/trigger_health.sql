-- Each watched change, and whether the trigger that should report it stands.
select
    r.name as route,
    w.relation::oid::bigint as relation,
    case when c.oid is null then w.relation::text else format('%I.%I', n.nspname, c.relname) end as "table",
    w.event,
    w.condition,
    w.origin,
    case
        when c.oid is null then 'table dropped'
        when t.oid is null then 'missing'
        when t.tgenabled not in ('O', 'A') then 'disabled'
        when t.tgfoid <> 'pgreact.signal_v1'::regproc then 'wrong version'
        when encode(t.tgargs, 'escape') <> format('%s\000%s\000', r.id, r.gate) then 'wrong gate'
        when w.event = 'truncate' and exists (
            select from pg_partition_tree(w.relation) p
            where not exists (select from pg_trigger pt where pt.tgrelid = p.relid and pt.tgname = t.tgname)
        ) then 'missing on a partition'
        when exists (
            select
            from pg_partition_tree(w.relation) p
            join pg_trigger pt on pt.tgrelid = p.relid and pt.tgname = t.tgname
            where pt.tgenabled not in ('O', 'A')
        ) then 'disabled on a partition'
        else 'ok'
    end as trigger
from pgreact.watched w
join pgreact.route r on r.id = w.route_id
left join pg_class c on c.oid = w.relation
left join pg_namespace n on n.oid = c.relnamespace
left join pg_trigger t on t.tgrelid = w.relation and t.tgname = format('pgreact_%s_%s', w.route_id, w.event)
order by r.name, "table", array_position(array['insert', 'update', 'delete', 'truncate'], w.event)
