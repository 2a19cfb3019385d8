-- Reads first and lists second: a writer that takes its number between the two is in the list.
create or replace function pgreact.poll_gates(route_ids integer[], out sequence_values jsonb, out holders jsonb)
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    sequence_values := pgreact.sequence_values(route_ids);
    holders := pgreact.holders(route_ids);
end
$$;
comment on function pgreact.poll_gates(integer[]) is 'the value of each route''s sequence, and then its holders, by route';
revoke all on function pgreact.poll_gates(integer[]) from public;
