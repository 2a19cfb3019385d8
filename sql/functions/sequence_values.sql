-- What no snapshot hides: a number that a writer took is seen before that writer commits.
create or replace function pgreact.sequence_values(route_ids integer[]) returns jsonb
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_object_agg(id, coalesce(pg_sequence_last_value(to_regclass('pgreact.gate_' || id)), 0)), '{}')
        from unnest(route_ids) as id
    );
exception
    -- dropped with its route while we waited for its lock: by now it has no name either
    when internal_error then
        return pgreact.sequence_values(route_ids);
end
$$;
comment on function pgreact.sequence_values(integer[]) is 'the last number of each route''s sequence; 0: none was taken';
revoke all on function pgreact.sequence_values(integer[]) from public;
