-- The worker's first act. A message that comes twice finds the attempt taken; a retry that the task asked for by itself
-- is the same attempt under a higher number. What has expired does not run. Where another transaction holds its row, which may be about to cancel it, this
-- fails with lock_not_available (55P03): the message is to be put off.
create or replace function pgreact.start(job bigint, claim_id uuid, retries integer, worker text) returns double precision
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    lease interval := (select s.lease from pgreact.queue_setting s);
begin
    update pgreact.in_progress p
    set started_at = coalesce(p.started_at, clock_timestamp()),
        published_at = coalesce(p.published_at, clock_timestamp()),
        retries = start.retries,
        worker = start.worker,
        lease_until = clock_timestamp() + lease
    where p.id = job and p.claim_id = start.claim_id and p.retries < start.retries
        and (p.started_at is not null or p.expires is null or p.expires > clock_timestamp());
    if found then
        return extract(epoch from lease);
    end if;
    perform pgreact.settle(p.id, p.claim_id, 'expired', format('it was to begin before %s', p.expires))
    from pgreact.in_progress p
    where p.id = job and p.claim_id = start.claim_id and p.started_at is null and p.expires <= clock_timestamp();
    return null;
end
$$;
comment on function pgreact.start(bigint, uuid, integer, text)
    is 'takes an attempt; returns the seconds of its lease, or null: it is not to be run';
revoke all on function pgreact.start(bigint, uuid, integer, text) from public;
