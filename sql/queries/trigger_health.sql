-- Each watched change (route, table, event) and the state of its trigger: 'ok' or what is wrong with it.
select
    r.name as route,
    w.relation::oid::bigint as relation,
    case when c.oid is null then w.relation::text else format('%I.%I', n.nspname, c.relname) end as "table",
    w.event,
    w.condition,
    w.always,
    w.origin,
    case
        when c.oid is null then 'table dropped'
        when pgreact.replaced(w.relation, w.attached_as) then 'another table has its name'
        when t.oid is null then 'missing'
        when t.tgfoid <> 'pgreact.signal_v1'::regproc then 'wrong version'
        when t.tgargs <> pgreact.trigger_arguments(array[r.id::text, r.gate]) then 'wrong gate'
        else pgreact.trigger_state(w.relation, t.tgname, w.event, w.always, w.definition)
    end as trigger,
    w.changed
from pgreact.watched w
join pgreact.route r on r.id = w.route_id
left join pg_class c on c.oid = w.relation
left join pg_namespace n on n.oid = c.relnamespace
left join pg_trigger t on t.tgrelid = w.relation and t.tgname = format('pgreact_%s_%s', w.route_id, w.event)
order by r.name, "table", array_position(array['insert', 'update', 'delete', 'truncate'], w.event)
