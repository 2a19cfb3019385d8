-- No snapshot hides a sequence: a number that a writer took is visible before that writer commits.
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
    -- The sequence was dropped with its route while this waited for its lock: now it has no name either.
    when internal_error then
        return pgreact.sequence_values(route_ids);
end
$$;
comment on function pgreact.sequence_values(integer[]) is 'the last number that was taken of each route''s sequence; 0: none';
revoke all on function pgreact.sequence_values(integer[]) from public;
