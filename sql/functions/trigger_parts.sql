-- PostgreSQL clones the row triggers of a partitioned table onto its partitions. It does not clone truncate triggers, nor any
-- trigger onto child tables (INHERITS): these need triggers of their own.
create or replace function pgreact.trigger_parts(watched regclass, event text) returns setof regclass
    language sql
    stable strict
    set search_path = pg_catalog, pg_temp
as $$
with recursive part (relation) as (
    select c.oid from pg_class c where c.oid = watched
    union
    select c.oid
    from part
    join pg_inherits i on i.inhparent = part.relation
    join pg_class c on c.oid = i.inhrelid
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and (event = 'truncate' or not c.relispartition)
)
select relation::regclass from part
$$;
comment on function pgreact.trigger_parts(regclass, text)
    is 'the tables that need a trigger of their own: this one, its child tables, and for truncate its partitions';
revoke all on function pgreact.trigger_parts(regclass, text) from public;
