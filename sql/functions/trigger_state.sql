-- The state of an attached trigger, the first that applies:
-- - disabled, fires only for origin, fires always: here, or on a partition or child table
-- - missing on a partition or child table
-- - condition changed: its definition is not the recorded one
-- - ok
create or replace function pgreact.trigger_state(
    relation regclass,
    name text,
    event text,
    always boolean,
    definition text
) returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
with parts as materialized (
    select part from pgreact.trigger_parts(relation, event) part
),
standing as (
    select t.tgrelid = relation as own, t.tgenabled, c.relispartition
    from (select p.part from parts p union select p.relid from pg_partition_tree(relation) p) p (part)
    join pg_trigger t on t.tgrelid = p.part and t.tgname = name
    join pg_class c on c.oid = t.tgrelid
),
wrong as (
    select
        case
            when tgenabled not in ('O', 'A') then 'disabled'
            when always then 'fires only for origin'
            else 'fires always'
        end as how,
        case when not own then case when relispartition then ' on a partition' else ' on a child table' end end as place
    from standing
    where tgenabled <> case when always then 'A' else 'O' end::"char"
    order by own desc
    limit 1
)
select coalesce(
    (select how || coalesce(place, '') from wrong),
    (
        select case when c.relispartition then 'missing on a partition' else 'missing on a child table' end
        from parts p
        join pg_class c on c.oid = p.part
        where not exists (select from pg_trigger t where t.tgrelid = p.part and t.tgname = name)
        limit 1
    ),
    case
        when pgreact.trigger_definition(relation, name) is distinct from definition then 'condition changed'
        else 'ok'
    end
)
$$;
comment on function pgreact.trigger_state(regclass, text, text, boolean, text)
    is 'the state of an attached trigger on this table, its partitions and child tables: what is wrong, or ok';
revoke all on function pgreact.trigger_state(regclass, text, text, boolean, text) from public;
