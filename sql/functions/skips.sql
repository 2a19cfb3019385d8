-- Reads what no snapshot hides: a number that a writer took is seen before that writer commits.
create or replace function pgreact.skips(route_id integer) returns bigint
    language sql
    volatile strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
select coalesce(pg_sequence_last_value(to_regclass('pgreact.skips_' || route_id)), 0)
$$;
comment on function pgreact.skips(integer) is 'how many writers of a route have not notified so far';
revoke all on function pgreact.skips(integer) from public;
