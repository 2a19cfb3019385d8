create or replace function pgreact.lane_tokens(tokens float8, tokens_at timestamptz, rate float8, burst integer, at timestamptz)
    returns float8
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return least(burst, coalesce(tokens + rate * greatest(0, extract(epoch from at - tokens_at)), burst));
end
$$;
comment on function pgreact.lane_tokens(float8, timestamptz, float8, integer, timestamptz)
    is 'tokens of a lane''s rate at a time, from those of lane_state; null tokens: the whole burst';
revoke all on function pgreact.lane_tokens(float8, timestamptz, float8, integer, timestamptz) from public;
