-- A claim marks what it returns as published. The leader calls this for the attempts whose messages it did not publish, before its next
-- claim; and without arguments when it does not know what the last claim returned: it has just begun to lead, or that claim's answer was
-- lost. It concerns unstarted attempts alone. The next claim returns them; jobs of bundles go back to the queue, and it claims them anew.
-- If a message was sent all the same, its jobs start once only.
--
-- alone: the jobs of bundles are to have messages of their own next time.
-- It waits for no lock: returns the attempts that another transaction holds, for a later call.
create or replace function pgreact.unpublished(claim_ids uuid[] default null, alone boolean default false) returns uuid[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
    set enable_seqscan = off
as $$
declare
    muted text := coalesce(current_setting('pgreact.muted', true), '');
    state pgreact.queue_state;
    doubtful bigint[];
    reverted bigint[];
    held pgreact.in_progress;
begin
    perform set_config('pgreact.muted', 'on', true);
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
        where p.id = any (doubtful) and p.started_at is null and p.bundle is null
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
    for held in
        select p.*
        from pgreact.in_progress p
        where p.id = any (doubtful) and p.started_at is null and p.bundle is not null
        order by p.id
        for update skip locked
    loop
        perform pgreact.return_unrun(held, alone);
    end loop;
    perform set_config('pgreact.muted', muted, true);
    return array(
        select p.claim_id
        from pgreact.in_progress p
        where p.id = any (doubtful) and p.id <> all (coalesce(reverted, '{}')) and p.started_at is null
    );
end
$$;
comment on function pgreact.unpublished(uuid[], boolean)
    is 'lets the next claim publish these attempts, or those of the last claim; returns those that are locked, to be reverted later';
revoke all on function pgreact.unpublished(uuid[], boolean) from public;
