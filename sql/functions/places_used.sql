create or replace function pgreact.places_used(
    out jobs bigint, out lanes text[], out used bigint[], out unstarted bigint[], out waiting text[], out bytes bigint)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    oldest_claim bigint := (select s.oldest_claim from pgreact.queue_state s);
    at timestamptz := pgreact.clock_now();
begin
    select coalesce(sum(l.jobs), 0), array_agg(l.lane), array_agg(coalesce(b.places, l.jobs)), array_agg(l.unstarted),
        array_agg(l.lane) filter (where coalesce(b.waits, l.waits)), coalesce(sum(l.bytes), 0)
    into places_used.jobs, lanes, used, unstarted, waiting, bytes
    from (
        select p.lane, count(*) as jobs, count(*) filter (where p.started_at is null) as unstarted,
            bool_or(p.started_at is null and p.published_at < at - interval '10 ms') as waits,
            sum(p.size) filter (where p.published_at is null) as bytes
        from pgreact.in_progress p
        where p.claim_number >= oldest_claim
        group by p.lane
    ) l
    left join pgreact.bundled_places(oldest_claim, at) b on b.lane = l.lane;
end
$$;
comment on function pgreact.places_used(out bigint, out text[], out bigint[], out bigint[], out text[], out bigint)
    is 'jobs in progress, in all, and by lane the places that they take, those that no worker has started, lanes whose messages wait for a worker, and bytes of those that are not published';
revoke all on function pgreact.places_used(out bigint, out text[], out bigint[], out bigint[], out text[], out bigint) from public;
