-- For a worker's main process, which sees what happens to a message, but did not run it: its child may have settled the
-- attempt or handed it to a retry, and the message may be a duplicate of one that runs elsewhere. None of these is ended.
-- As settle, it fails with lock_not_available where another transaction holds the row.
create or replace function pgreact.abandon(
    job bigint, claim_id uuid, retries integer, worker text, outcome text, error text
) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
begin
    perform
    from pgreact.in_progress p
    where p.id = job
        and p.claim_id = abandon.claim_id
        and (p.retries < abandon.retries or (p.retries = abandon.retries and p.worker = abandon.worker))
    for update;
    if not found then
        return false;
    end if;
    return pgreact.settle(job, claim_id, outcome, error);
end
$$;
comment on function pgreact.abandon(bigint, uuid, integer, text, text, text)
    is 'ends an attempt by a message that will not run, or whose run by this worker was cut short';
revoke all on function pgreact.abandon(bigint, uuid, integer, text, text, text) from public;
