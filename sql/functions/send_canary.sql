-- Returns the seconds until the leader is to call it again; null: the canary is off. Cases:
--   interval or queue changed                               one that has not come back is cancelled, and not counted; another is due
--   it is not due yet                                       nothing
--   the last one waits, or is in progress                   counted as a failure; it stays the last one, so that none pile up
--   the last one ended otherwise than done, or was removed  counted as a failure; another is enqueued
--   the last one came back, or there was none               another is enqueued
-- The row is locked, and keeps the times, so a new leader goes on where the last one stopped.
create or replace function pgreact.send_canary() returns double precision
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '100ms'
as $$
declare
    moment timestamptz := pgreact.clock_now();
    setting pgreact.queue_setting := (select s from pgreact.queue_setting s);
    last pgreact.canary;
    lost integer;
begin
    select c.* into last from pgreact.canary c for update skip locked;
    if not found then
        return 1;
    end if;
    if (last.every, last.queue) is distinct from (setting.canary, setting.canary_queue) then
        if last.sent_at is not null and last.returned_at is null then
            begin
                perform pgreact.cancel(last.job);
            exception when lock_not_available then  -- a transaction holds the job
                return 1;
            end;
            delete from pgreact.dead d where d.id = last.job and d.task = 'pgreact.canary';
            last.job := null;  -- if it runs, it goes on, and its return is not awaited
            last.sent_at := null;
        end if;
        last.checked_at := null;
        update pgreact.canary c
        set job = last.job, sent_at = last.sent_at, checked_at = null, every = setting.canary, queue = setting.canary_queue;
    end if;
    if setting.canary is null then
        return null;
    end if;
    if last.checked_at <= moment and last.checked_at + setting.canary > moment then  -- a clock set back makes it due
        return extract(epoch from last.checked_at + setting.canary - moment);
    end if;
    lost := (last.sent_at is not null and last.returned_at is null)::integer;
    if exists (select from pgreact.queue q where q.id = last.job) or exists (select from pgreact.in_progress p where p.id = last.job) then
        update pgreact.canary c set checked_at = moment, failures = c.failures + lost;
        return extract(epoch from setting.canary);
    end if;
    delete from pgreact.dead d where d.id = last.job and d.task = 'pgreact.canary';
    -- a lane of its own: a limit, a pause or a backlog of another lane does not hold it up, nor does it take another's places
    if setting.canary_queue is null and not exists (select from pgreact.lane l where l.name = 'pgreact.canary') then
        insert into pgreact.lane (name, tasks) values ('pgreact.canary', '{pgreact.canary}') on conflict do nothing;
    end if;
    update pgreact.canary c
    set job = pgreact.enqueue('pgreact.canary',
            lane => case when setting.canary_queue is null then 'pgreact.canary' end,
            options => case when setting.canary_queue is null then '{}' else jsonb_build_object('queue', setting.canary_queue) end),
        sent_at = moment,
        returned_at = null,
        checked_at = moment,
        failures = c.failures + lost;
    return extract(epoch from setting.canary);
end
$$;
comment on function pgreact.send_canary() is 'enqueues the canary if it is due; returns the seconds until the next one';
revoke all on function pgreact.send_canary() from public;
