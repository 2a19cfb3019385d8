-- A claim marks what it returns as published. The leader calls this for the attempts whose messages it did not publish, before its next
-- claim; and without arguments when it does not know what the last claim returned: it has just begun to lead, or that claim's answer was
-- lost. It concerns unstarted attempts alone, and the next claim returns them. If a message of them was sent all the same, its jobs
-- start once only. It waits for no lock: returns the attempts that another transaction holds, for a later call.
create or replace function pgreact.unpublished(claim_ids uuid[] default null) returns uuid[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    state pgreact.queue_state;
    doubtful bigint[];
    reverted bigint[];
begin
    select s.* into state from pgreact.queue_state s;
    doubtful := array(
        select p.id
        from pgreact.in_progress p
        where p.claim_number >= state.oldest_claim
            and case
                when unpublished.claim_ids is null
                    then p.claim_number = state.claim_number or p.published_at = state.republished_at
                else p.claim_id = any (unpublished.claim_ids)
            end
            and p.started_at is null
            and p.published_at is not null
    );
    with free as materialized (
        select p.id
        from pgreact.in_progress p
        where p.id = any (doubtful) and p.started_at is null
        for no key update skip locked
    ),
    marked as (
        update pgreact.in_progress p
        set published_at = null
        from free f
        where p.id = f.id
        returning p.id
    )
    select array_agg(m.id) into reverted from marked m;
    return array(
        select p.claim_id
        from pgreact.in_progress p
        where p.id = any (doubtful) and p.id <> all (coalesce(reverted, '{}')) and p.started_at is null
    );
end
$$;
comment on function pgreact.unpublished(uuid[])
    is 'lets the next claim publish these attempts, or those of the last claim; returns those that are locked, to be reverted later';
revoke all on function pgreact.unpublished(uuid[]) from public;
