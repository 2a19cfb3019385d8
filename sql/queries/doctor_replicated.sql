-- Watched tables, or tables with an outbox, that a subscription feeds while the trigger fires only for changes made here.
select distinct w.owner, w.relation::regclass::text as "table", w.event, w.origin, s.subname::text as subscription,
    w.route, w.task, w.lane, w.condition, w.changed
from (
    select 'route ' || r.name as owner, a.relation, a.event, a.origin, a.always, r.name as route, null as task, null as lane,
        a.condition, a.changed
    from pgreact.watched a
    join pgreact.route r on r.id = a.route_id
    union all
    select 'outbox ' || o.task, o.relation, o.event, o.origin, o.always, null, o.task, o.lane, o.condition, o.changed
    from pgreact.outbox o
) w
join pg_class c on c.oid = w.relation
cross join lateral (
    select c.oid as part
    union
    select p.relid from pg_partition_tree(c.oid) p
    union
    select p.relid from pg_partition_ancestors(c.oid) p
) p
join pg_subscription_rel f on f.srrelid = p.part
join pg_subscription s on s.oid = f.srsubid
where not w.always
order by 1, 2, 3
limit 100
