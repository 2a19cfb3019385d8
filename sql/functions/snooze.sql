-- Like settle, it fails with lock_not_available (55P03) if another transaction holds the row.
create or replace function pgreact.snooze(job bigint, claim_id uuid, pause interval, redelivered boolean) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
update pgreact.in_progress p
set lease_until = pgreact.clock_now() + pause + (select s.lease from pgreact.queue_setting s),
    retries = case when redelivered then p.retries - 1 else p.retries end
where p.id = job and p.claim_id = snooze.claim_id
$$;
comment on function pgreact.snooze(bigint, uuid, interval, boolean)
    is 'extends an attempt''s lease by a pause, after which a replacing task, or the same message redelivered, goes on with it';
revoke all on function pgreact.snooze(bigint, uuid, interval, boolean) from public;
