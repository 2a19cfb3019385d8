-- Waits for no lock: returns the attempts that another transaction holds, for a later call.
create or replace function pgreact.published(claim_ids uuid[]) returns uuid[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    oldest_claim bigint := (select s.oldest_claim from pgreact.queue_state s);
    marked integer;
begin
    with free as materialized (
        select p.id
        from unnest(claim_ids) c (claim_id)
        join pgreact.in_progress p on p.claim_id = c.claim_id
        where p.claim_number >= oldest_claim and p.published_at is null
        for no key update of p skip locked
    )
    update pgreact.in_progress p
    set published_at = pgreact.clock_now()
    from free f
    where p.id = f.id;
    get diagnostics marked = row_count;
    if marked = cardinality(claim_ids) then
        return '{}';
    end if;
    return array(
        select p.claim_id
        from unnest(claim_ids) c (claim_id)
        join pgreact.in_progress p on p.claim_id = c.claim_id
        where p.claim_number >= oldest_claim and p.published_at is null
    );
end
$$;
comment on function pgreact.published(uuid[])
    is 'marks attempts whose messages the broker has; returns those that are locked, to be marked later';
revoke all on function pgreact.published(uuid[]) from public;
