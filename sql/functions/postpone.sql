-- Called when a task asks for a retry, as by Celery's self.retry(). The message of the retry is stored with the job, which waits
-- in the queue: it takes no place in its lane and no memory of a worker, and keeps its key. A claim takes it when it is due,
-- within the limits, as the same attempt. Only a started run can postpone, and only once, since its row is gone then.
-- Cases: postponed (true); the message cannot be stored, so the job is dead as invalid (true); the attempt is not this run's
-- (false). Like settle, it fails with lock_not_available (55P03) if another transaction holds the row.
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
            return pgreact.settle(job, claim_id, 'invalid', 'the arguments of its retry cannot be stored: ' || sqlerrm);
    end;
    delete from pgreact.in_progress p
    where p.id = job and p.claim_id = postpone.claim_id and p.retries = postpone.retries and p.started_at is not null
    returning * into held;
    if not found then
        return false;
    end if;
    if message -> 'options' ? 'expires' then
        held.expires := pgreact.expiry(message -> 'options', pgreact.clock_now());
        message := message #- '{options,expires}';
    end if;
    held.resume := message;
    held.attempt := held.attempt - 1;  -- the claim counts it again
    perform pgreact.requeue(held, pgreact.clock_now() + least(pause, interval '3650 days'), error);
    return true;
end
$$;
comment on function pgreact.postpone(bigint, uuid, integer, interval, text, text)
    is 'puts a job back into the queue for a retry of the same attempt, after a pause, with this message';
revoke all on function pgreact.postpone(bigint, uuid, integer, interval, text, text) from public;
