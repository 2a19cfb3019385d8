-- Orphans, as after a restore or a truncate of pgreact's tables. Cases by kind:
--   trigger   calls a function of pgreact, but has no row in watched or outbox, and is not in %(wanted)s
--   sequence  a gate without a route
--   gate      a route whose gate has no sequence
with known (relation, route, task, event) as (
    select w.relation, w.route_id, null, w.event from pgreact.watched w
    union all
    select o.relation, null, o.task, o.event from pgreact.outbox o
    union all
    select w.relation::oid::regclass, w.route, w.task, w.event
    from jsonb_to_recordset(%(wanted)s) w (relation bigint, route integer, task text, event text)
),
attached as materialized (
    select part::oid as relation,
        coalesce('pgreact_' || k.route || '_' || k.event, pgreact.outbox_trigger(k.task, k.event)) as name
    from known k
    cross join pgreact.trigger_parts(k.relation, k.event) part
)
select
    'trigger' as kind,
    t.tgname::text as name,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) as "table",
    null::integer as route
from pg_trigger t
join pg_proc p on p.oid = t.tgfoid
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where p.pronamespace = 'pgreact'::regnamespace
    and p.proname ~ '^(signal|outbox)_v'
    and t.tgparentid = 0
    and not exists (select from attached a where a.relation = t.tgrelid and a.name = t.tgname)
    -- the built-in queue's triggers: another step of apply restores them
    and not (n.nspname = 'pgreact' and t.tgname ~ '^pgreact_0_')
union all
select 'sequence', c.relname, null, null
from pg_class c
where c.relnamespace = 'pgreact'::regnamespace
    and c.relkind = 'S'
    and c.relname ~ '^gate_[1-9][0-9]*$'
    and not exists (select from pgreact.route r where c.relname = 'gate_' || r.id)
union all
select 'gate', r.name, null, r.id
from pgreact.route r
where to_regclass('pgreact.gate_' || r.id) is null
order by 1 desc, 3, 2
