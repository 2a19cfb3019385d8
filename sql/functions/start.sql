-- A worker calls this before it runs a job. Cases:
--   the first message of the attempt, or a retry or replacement of it under a higher number    taken: the lease in seconds
--   a duplicate message, or the attempt is gone                                                 null
--   the job has expired and not started                                                         settled as expired, null
-- publish_s: seconds from the claim until the leader made the message.
-- If another transaction holds the row, and may be about to cancel it, this fails with lock_not_available (55P03): the worker
-- puts off the message.
create or replace function pgreact.start(job bigint, claim_id uuid, retries integer, worker text, publish_s double precision default 0) returns double precision
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    moment timestamptz := pgreact.clock_now();
    lease_s float8;
begin
    update pgreact.in_progress p
    set started_at = coalesce(p.started_at, moment),
        published_at = case
            when p.started_at is null then least(moment, p.published_at + make_interval(secs => publish_s))
            else p.published_at
        end,
        retries = start.retries,
        worker = start.worker,
        lease_until = moment + s.lease
    from pgreact.queue_setting s
    where p.id = job and p.claim_id = start.claim_id and p.retries < start.retries
        and (p.started_at is not null or p.expires is null or p.expires > moment)
    returning extract(epoch from s.lease) into lease_s;
    if found then
        return lease_s;
    end if;
    perform pgreact.settle(p.id, p.claim_id, 'expired', format('not started before it expired at %s', p.expires))
    from pgreact.in_progress p
    where p.id = job and p.claim_id = start.claim_id and p.started_at is null and p.expires <= moment;
    return null;
end
$$;
comment on function pgreact.start(bigint, uuid, integer, text, double precision)
    is 'takes an attempt for a worker; returns its lease in seconds; null: do not run it';
revoke all on function pgreact.start(bigint, uuid, integer, text, double precision) from public;
