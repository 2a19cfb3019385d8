-- Waits for no lock: an attempt that another transaction holds must not cost the others of the worker's process their leases.
create or replace function pgreact.renew(
    jobs bigint[],
    claim_ids uuid[],
    out lease_s double precision,
    out skipped bigint[]
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    lease interval := (select s.lease from pgreact.queue_setting s);
    renewed bigint[];
begin
    with free as materialized (
        select p.id
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        for no key update of p skip locked
    ),
    kept as (
        update pgreact.in_progress p
        set lease_until = greatest(p.lease_until, pgreact.clock_now() + lease)
        from free f
        where p.id = f.id
        returning p.id
    )
    select array_agg(k.id) into renewed from kept k;
    lease_s := extract(epoch from lease);
    skipped := '{}';
    if coalesce(cardinality(renewed), 0) < cardinality(jobs) then
        select coalesce(array_agg(p.id), '{}') into skipped
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        where p.id <> all (coalesce(renewed, '{}'));
    end if;
end
$$;
comment on function pgreact.renew(bigint[], uuid[])
    is 'renews the leases of running attempts; returns the lease in seconds, and the jobs whose rows are locked: renew them soon';
revoke all on function pgreact.renew(bigint[], uuid[]) from public;
