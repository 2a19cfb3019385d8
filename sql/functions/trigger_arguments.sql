create or replace function pgreact.trigger_arguments(arguments text[]) returns bytea
    language sql
    immutable strict
    set search_path = pg_catalog, pg_temp
as $$
select string_agg(convert_to(a, getdatabaseencoding()) || decode('00', 'hex'), '' order by n) from unnest(arguments) with ordinality u (a, n)
$$;
comment on function pgreact.trigger_arguments(text[]) is 'arguments in the format of pg_trigger.tgargs';
revoke all on function pgreact.trigger_arguments(text[]) from public;
