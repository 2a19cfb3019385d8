-- A renamed table stays attached. The table that takes its name is not, which is seldom intended: so pgreact status reports it.
create or replace function pgreact.replaced(relation regclass, attached_as text) returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
select exists (
    select
    from (select parse_ident(attached_as) as parts) a
    join pg_namespace n on n.nspname = a.parts[1]
    join pg_class c on c.relnamespace = n.oid and c.relname = a.parts[2]
    where c.oid <> relation
)
$$;
comment on function pgreact.replaced(regclass, text) is 'whether another table has the name that this one had when it was attached';
revoke all on function pgreact.replaced(regclass, text) from public;
