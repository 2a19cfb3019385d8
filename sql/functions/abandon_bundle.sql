-- A worker's main process calls this for a bundle that its child did not run to the end: attempts that the child had taken are
-- settled, those that nobody has taken go back to the queue untouched, and those that run elsewhere are left alone.
-- It waits for no lock: returns the attempts that another transaction holds, for a later call.
create or replace function pgreact.abandon_bundle(
    jobs bigint[], claim_ids uuid[], worker text, outcome text, error text
) returns bigint[]
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
    set enable_seqscan = off
as $$
declare
    held record;
    settled bigint[] := '{}';
begin
    for held in
        select p.id, p.claim_id
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        where p.started_at is not null and p.worker = abandon_bundle.worker
        order by p.id
        for update of p skip locked
    loop
        perform pgreact.settle(held.id, held.claim_id, outcome, error);
        settled := settled || held.id;
    end loop;
    return array(
        select p.id
        from unnest(jobs, claim_ids) j (id, claim_id)
        join pgreact.in_progress p on p.id = j.id and p.claim_id = j.claim_id
        where p.started_at is not null and p.worker = abandon_bundle.worker and p.id <> all (settled)
    ) || pgreact.hand_back(jobs, claim_ids, '');  -- no worker's name: unstarted attempts alone
end
$$;
comment on function pgreact.abandon_bundle(bigint[], uuid[], text, text, text)
    is 'settles the attempts of a bundle that a worker had begun, hands back the others; returns those that are locked';
revoke all on function pgreact.abandon_bundle(bigint[], uuid[], text, text, text) from public;
