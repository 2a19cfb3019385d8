-- The places that lanes with a limit use while they have bundles in progress: each bundle takes one, since a worker runs its jobs one after
-- the other. waits: whether a message of the lane waits for a worker. The jobs that a running bundle has not begun do not.
create or replace function pgreact.bundled_places(oldest_claim bigint, at timestamptz) returns table (lane text, places bigint, waits boolean)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select m.lane, count(*), bool_or(m.waits)
    from (
        select p.lane, bool_and(p.started_at is null) and min(p.published_at) < at - interval '10 ms' as waits
        from pgreact.in_progress p
        join pgreact.lane l on l.name = p.lane and l.max_in_progress is not null
        where p.claim_number >= oldest_claim
        group by p.lane, coalesce(p.bundle, -p.id)
    ) m
    group by m.lane;
end
$$;
comment on function pgreact.bundled_places(bigint, timestamptz) is 'the places that lanes with a limit use while they have bundles in progress';
revoke all on function pgreact.bundled_places(bigint, timestamptz) from public;
