-- Ends an attempt: only the one whose claim_id is given, so that a late word about an earlier one changes nothing.
-- Where another transaction holds its row, this fails with lock_not_available (55P03) and is to be called again.
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
    -- nobody knows better whether it ought to run again, unless it can never run, or somebody decided
    again := outcome in ('failed', 'lost') and ended.attempt < ended.max_attempts;
    perform pgreact.remember(ended.id, ended.lane, ended.task, ended.key, ended.attempt, outcome, error, ended.task_id,
        ended.worker, ended.enqueued_at, ended.claimed_at, ended.started_at);
    if again then
        insert into pgreact.queue (id, state, lane, task, args, kwargs, priority, run_at, key, unique_while,
            attempt, max_attempts, backoff, expires, options, enqueued_at, task_id, error)
        select ended.id, case when w.run_at > clock_timestamp() then 'delayed' else 'ready' end, ended.lane, ended.task,
            ended.args, ended.kwargs, ended.priority, w.run_at, ended.key, ended.unique_while, ended.attempt, ended.max_attempts, ended.backoff, ended.expires, ended.options,
            ended.enqueued_at, ended.task_id, error
        from (
            select case when outcome = 'lost' then ended.run_at
                else clock_timestamp() + greatest(least(ended.backoff, interval '3650 days'),
                    -- a longer one would not fit into an interval after thirty doublings
                    least(least(ended.backoff, interval '1 hour') * 2 ^ least(ended.attempt - 1, 30), interval '1 hour'))
            end as run_at
        ) w;
        -- Another job may have come meanwhile, and keeps the unique key: be it one of a transaction that has not committed,
        -- for which the index would wait.
        if ended.unique_key is not null then
            begin
                perform set_config('lock_timeout', '1ms', true);
                update pgreact.queue q set unique_key = ended.unique_key where q.id = ended.id;
            exception
                when lock_not_available or unique_violation then null;
            end;
        end if;
        return true;
    end if;
    if outcome <> 'done' then
        insert into pgreact.dead (id, lane, task, args, kwargs, priority, key, attempt, max_attempts, backoff, options,
            enqueued_at, task_id, outcome, error)
        values (ended.id, ended.lane, ended.task, ended.args, ended.kwargs, ended.priority, ended.key, ended.attempt,
            ended.max_attempts, ended.backoff, ended.options, ended.enqueued_at, ended.task_id, outcome, error);
    end if;
    if ended.key is not null then
        perform pgreact.let_next(ended.key, ended.round);
    end if;
    return true;
end
$$;
comment on function pgreact.settle(bigint, uuid, text, text)
    is 'ends an attempt: done, or failed and lost, which go back to the queue while attempts are left; the others are dead';
revoke all on function pgreact.settle(bigint, uuid, text, text) from public;
