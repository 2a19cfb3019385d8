-- A worker calls this for attempts of a bundle that it will not run: they go back to the queue as they were, and no attempt is spent.
-- alone: they are to have messages of their own next time.
-- It takes unstarted attempts, and those that this worker has taken, whose bodies have not run, as the worker vouches.
-- It waits for no lock: returns the attempts that another transaction holds, for a later call.
create or replace function pgreact.hand_back(jobs bigint[], claim_ids uuid[], worker text, alone boolean default false) returns bigint[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
    set enable_seqscan = off
as $$
declare
    held pgreact.in_progress;
    returned bigint[] := '{}';
begin
    for held in
        select p.*
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        where p.started_at is null or p.worker = hand_back.worker
        order by p.id
        for update of p skip locked
    loop
        perform pgreact.return_unrun(held, alone);
        returned := returned || held.id;
    end loop;
    return array(
        select p.id
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        where (p.started_at is null or p.worker = hand_back.worker) and p.id <> all (returned)
    );
end
$$;
comment on function pgreact.hand_back(bigint[], uuid[], text, boolean)
    is 'puts attempts that have not run back into the queue, untouched; returns those that are locked, to be handed back later';
revoke all on function pgreact.hand_back(bigint[], uuid[], text, boolean) from public;
