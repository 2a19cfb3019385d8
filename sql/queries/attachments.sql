-- What attach has recorded, with the columns on which the triggers depend. Alembic's autogenerate reads it in an older schema,
-- too, so it uses tables and the name of an outbox's trigger alone.
select
    a.kind,
    a.name,
    n.nspname::text as schema,
    c.relname::text as "table",
    c.oid::bigint as relation,
    a.event,
    a.lane,
    a.condition,
    a.changed,
    a.always,
    a.origin,
    array(
        select col.attname::text
        from pg_catalog.pg_trigger t
        join pg_catalog.pg_depend d
            on d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and d.objid = t.oid and d.refobjid = t.tgrelid
        join pg_catalog.pg_attribute col on col.attrelid = t.tgrelid and col.attnum = d.refobjsubid
        where t.tgrelid = c.oid and t.tgname = a.trigger
    ) as columns
from (
    select
        'route' as kind, r.name, w.relation, w.event, null::text as lane, w.condition, w.changed, w.always, w.origin,
        pg_catalog.format('pgreact_%s_%s', w.route_id, w.event) as trigger
    from pgreact.watched w
    join pgreact.route r on r.id = w.route_id
    union all
    select
        'outbox', o.task, o.relation, o.event, o.lane::text, o.condition, o.changed, o.always, o.origin,
        pgreact.outbox_trigger(o.task, o.event)
    from pgreact.outbox o
) a
join pg_catalog.pg_class c on c.oid = a.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
order by a.kind, a.name, "table", pg_catalog.array_position(array['insert', 'update', 'delete', 'truncate'], a.event)
