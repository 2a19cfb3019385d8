-- A worker's main process calls this for a message that its child did not run to the end. It leaves alone an attempt that
--   - the child has settled or handed to a retry (another number of retries),
--   - runs elsewhere, so that the message is a duplicate (another worker).
-- Like settle, it fails with lock_not_available (55P03) if another transaction holds the row.
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
    is 'settles the attempt of a message that will not run, or whose run by this worker was cut short; false: it is not this worker''s';
revoke all on function pgreact.abandon(bigint, uuid, integer, text, text, text) from public;
