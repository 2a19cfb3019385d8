-- It has the present names, so it differs from the recorded one once a column, a type or a function of the condition is renamed.
create or replace function pgreact.trigger_definition(relation regclass, name text) returns text
    language sql
    stable strict
    set search_path = pg_catalog, pg_temp
    -- the notation of constants and names
    set bytea_output = 'hex'
    set datestyle = 'ISO'
    set extra_float_digits = 1
    set intervalstyle = 'postgres'
    set quote_all_identifiers = off
    set timezone = 'UTC'
as $$
-- without the table's own name: a renamed table stays attached
select substr(d.whole, strpos(d.whole, d.place) + length(d.place))
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (select pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname)) d (whole, place)
where t.tgrelid = relation and t.tgname = name
$$;
comment on function pgreact.trigger_definition(regclass, text) is 'the definition of a trigger as PostgreSQL shows it, without its table';
revoke all on function pgreact.trigger_definition(regclass, text) from public;
