-- Ends an attempt, identified by claim_id, so that a late settlement of an earlier attempt changes nothing. Cases, by outcome:
--   done                                        the job is gone
--   failed, with attempts left                  back to the queue, after its backoff
--   lost, fewer than max_lost times so far      back to the queue at once, with the same message
--   failed and lost otherwise; expired, revoked, rejected, invalid, unstarted    dead
-- If another transaction holds the row, it fails with lock_not_available (55P03): call it again.
create or replace function pgreact.settle(job bigint, claim_id uuid, outcome text, error text default null) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    ended pgreact.in_progress;
    again boolean;
begin
    if outcome not in ('done', 'failed', 'lost', 'expired', 'revoked', 'rejected', 'invalid', 'unstarted') then
        raise exception 'no outcome "%"', outcome
            using errcode = 'invalid_parameter_value',
                hint = 'Outcomes are done, failed, lost, expired, revoked, rejected, invalid and unstarted.';
    end if;
    delete from pgreact.in_progress p where p.id = job and p.claim_id = settle.claim_id returning * into ended;
    if not found then
        return false;
    end if;
    -- By default a failure is final, since the task has its own retries. A worker's death is no failure.
    again := case outcome
        when 'failed' then ended.attempt - ended.lost < ended.max_attempts
        when 'lost' then ended.lost < coalesce(ended.max_lost,
            (select l.max_lost from pgreact.lane l where l.name = ended.lane), 3)
        else false
    end;
    perform pgreact.record_history(ended, outcome, error);
    if outcome = 'lost' and again then
        -- resume stays: a retry that the task asked for is repeated as such
        ended.lost := ended.lost + 1;
        perform pgreact.requeue(ended, ended.run_at, error);
        return true;
    elsif again then
        ended.resume := null;
        perform pgreact.requeue(ended, pgreact.clock_now() + greatest(least(ended.backoff, interval '3650 days'),
            -- a longer base would overflow an interval after thirty doublings
            least(least(ended.backoff, interval '1 hour') * 2 ^ least(ended.attempt - ended.lost - 1, 30), interval '1 hour')),
            error);
        return true;
    end if;
    if outcome <> 'done' then
        perform pgreact.record_dead(ended, outcome, error);
    end if;
    if ended.key is not null then
        perform pgreact.unblock_next(ended.key, ended.claim_number);
    end if;
    return true;
end
$$;
comment on function pgreact.settle(bigint, uuid, text, text)
    is 'ends an attempt: the job is done, back in the queue, or dead; false: no such attempt';
revoke all on function pgreact.settle(bigint, uuid, text, text) from public;
