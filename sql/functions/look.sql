-- In this order: a writer that takes its number between the two is in the list.
create or replace function pgreact.look(route_ids integer[], out heights jsonb, out holders jsonb)
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    heights := pgreact.heights(route_ids);
    holders := pgreact.holders(route_ids);
end
$$;
comment on function pgreact.look(integer[]) is 'the sequence of each route and then, by route, who holds its lock';
revoke all on function pgreact.look(integer[]) from public;
