-- A task asked to be run again, as by Celery's self.retry(). Its message is not sent, but kept with the job, which waits for it
-- in the queue: it holds no place in its lane and nothing in a worker's memory, and keeps its key. When it is due a claim takes
-- it, within the limits. The attempt is the same. Only a run that started says this, and only once: its row is gone then.
-- As settle, it fails with lock_not_available where another transaction holds the row.
create or replace function pgreact.postpone(
    job bigint, claim_id uuid, retries integer, pause interval, resume text, error text
) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    message jsonb;
    held pgreact.in_progress;
begin
    begin
        message := resume;
    exception
        when data_exception or program_limit_exceeded then
            return pgreact.settle(job, claim_id, 'invalid', 'it cannot be run again, since its arguments cannot be stored: ' || sqlerrm);
    end;
    delete from pgreact.in_progress p
    where p.id = job and p.claim_id = postpone.claim_id and p.retries = postpone.retries and p.started_at is not null
    returning * into held;
    if not found then
        return false;
    end if;
    if message -> 'options' ? 'expires' then
        held.expires := pgreact.expiry(message -> 'options', clock_timestamp());
        message := message #- '{options,expires}';
    end if;
    held.resume := message;
    held.attempt := held.attempt - 1;  -- the claim counts it again
    perform pgreact.requeue(held, clock_timestamp() + least(pause, interval '3650 days'), error);
    return true;
end
$$;
comment on function pgreact.postpone(bigint, uuid, integer, interval, text, text)
    is 'lets a run be followed by another one of the same attempt, after a pause, by this message';
revoke all on function pgreact.postpone(bigint, uuid, integer, interval, text, text) from public;
